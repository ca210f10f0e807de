{{/* Names and labels. */}}

{{/* Of every object; begins with kafka-to-db-consumer whatever the release is called, so that its pods are found. A name
that is too long, or has a dot, which a Service's name can't have, is changed and ends with a sum of the whole: two
releases may begin alike. */}}
{{- define "consumer.fullname" -}}
{{- $name := .Release.Name -}}
{{- if not (hasPrefix .Chart.Name $name) -}}
{{- $name = printf "%s-%s" .Chart.Name $name -}}
{{- end -}}
{{- if or (gt (len $name) 48) (contains "." $name) -}}
{{- $name = printf "%s-%s" ($name | replace "." "-" | trunc 39 | trimAll "-") (sha256sum .Release.Name | trunc 8) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* What never changes: Deployment, PodDisruptionBudget and policies select by it. Takes [context, component]. */}}
{{- define "consumer.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of an object. Takes [context, component]. */}}
{{- define "consumer.labels" -}}
{{ include "consumer.selector" . }}
{{- with index . 0 }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}
{{- end -}}

{{- define "consumer.image" -}}
{{- $image := .Values.image -}}
{{- $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}{{ with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* Names of the Secrets that passwords come from: one that exists, or the chart's own. */}}
{{- define "consumer.databaseSecret" -}}
{{- ternary (printf "%s-database" (include "consumer.fullname" .)) .Values.database.secret.name .Values.database.secret.create -}}
{{- end -}}

{{- define "consumer.saslSecret" -}}
{{- ternary (printf "%s-kafka" (include "consumer.fullname" .)) .Values.kafka.sasl.secret.name .Values.kafka.sasl.secret.create -}}
{{- end -}}

{{/* The secret's values that the migration uses: its own role's, or the service's. As JSON. */}}
{{- define "consumer.migrationSecretValues" -}}
{{- ternary .Values.migration.secret .Values.database.secret (ne .Values.migration.user "") | toJson -}}
{{- end -}}

{{/* A hook can't see the Secret that the release itself brings (at install), or sees the old one (at upgrade): where
the chart makes the Secret, the hook has a copy of its own. */}}
{{- define "consumer.migrationSecret" -}}
{{- $secret := include "consumer.migrationSecretValues" . | fromJson -}}
{{- ternary (printf "%s-migration" (include "consumer.fullname" .)) $secret.name $secret.create -}}
{{- end -}}

{{/* How many pods there can be: what the autoscaler may reach, or the number given. */}}
{{- define "consumer.maxPods" -}}
{{- if .Values.keda.enabled -}}
{{- .Values.keda.maxReplicas -}}
{{- else if .Values.autoscaling.enabled -}}
{{- .Values.autoscaling.maxReplicas -}}
{{- else -}}
{{- .Values.replicaCount -}}
{{- end -}}
{{- end -}}

{{/* Changes with a password, and tells nothing of it: scrypt, salted by release and namespace. Takes [context, password]. */}}
{{- define "consumer.passwordSum" -}}
{{- $context := index . 0 -}}
{{- derivePassword 1 "maximum" (index . 1) $context.Release.Name $context.Release.Namespace | sha256sum -}}
{{- end -}}
