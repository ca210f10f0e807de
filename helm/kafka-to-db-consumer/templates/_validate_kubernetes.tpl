{{/* What Kubernetes or a registry would refuse, or take in another sense: as a JSON list. The API server would say it, but
after the migration, and not with the value's name. */}}
{{- define "consumer.kubernetesProblems" -}}
{{- $problems := list -}}

{{- with .Values.image -}}
{{- $part := "[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*" -}}
{{- if and (trim .repository) (not (regexMatch (printf "^(([A-Za-z0-9.-]+|\\[[0-9a-fA-F:]+\\])(:[0-9]+)?/)?%s(/%s)*$" $part $part) .repository)) -}}
{{- $problems = append $problems (printf "image.repository: %q is no name of an image like registry.example.com/loom/kafka-to-db-consumer; version and digest are image.tag and image.digest" .repository) -}}
{{- end -}}
{{- if eq .tag "latest" -}}
{{- $problems = append $problems "image.tag: \"latest\" names no version: two pods of one revision could run different code. Give a version, or leave it empty for the chart's own" -}}
{{- else if and .tag (not (regexMatch "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$" .tag)) -}}
{{- $problems = append $problems (printf "image.tag: %q is no tag: letters, digits, _, . and -, at most 128 of them" .tag) -}}
{{- end -}}
{{- if and .digest (not (regexMatch "^sha256:[0-9a-f]{64}$" .digest)) -}}
{{- $problems = append $problems (printf "image.digest: %q is no digest: sha256: and 64 hexadecimal digits" .digest) -}}
{{- end -}}
{{- end -}}

{{- $names := dict
  "priorityClassName" .Values.priorityClassName
  "database.secret.name" .Values.database.secret.name
  "database.tls.secretName" .Values.database.tls.secretName
  "kafka.sasl.secret.name" .Values.kafka.sasl.secret.name
  "kafka.tls.secretName" .Values.kafka.tls.secretName
  "migration.secret.name" .Values.migration.secret.name
-}}
{{- range $number, $secret := .Values.image.pullSecrets -}}
{{- $_ := set $names (printf "image.pullSecrets[%d].name" $number) $secret.name -}}
{{- end -}}
{{- range $where, $name := $names -}}
{{- if and $name (or (gt (len $name) 253) (not (regexMatch "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$" $name))) -}}
{{- $problems = append $problems (printf "%s: %q can't be a name in Kubernetes: lower-case letters, digits, - and ." $where $name) -}}
{{- end -}}
{{- end -}}

{{- $labels := dict "podLabels" .Values.podLabels "serviceMonitor.labels" .Values.serviceMonitor.labels "nodeSelector" .Values.nodeSelector -}}
{{- $word := "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?" -}}
{{- range $where, $pairs := merge (dict "podAnnotations" .Values.podAnnotations) $labels -}}
{{- range $name, $value := $pairs -}}
{{- /* In annotations the part before the slash may have capitals. */ -}}
{{- if not (regexMatch (printf "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?%s$" $word) (ternary $name (lower $name) (hasKey $labels $where))) -}}
{{- $problems = append $problems (printf "%s: %q can't be the name of a label or annotation, such as team or example.com/team" $where $name) -}}
{{- end -}}
{{- if and (hasKey $labels $where) (not (regexMatch (printf "^(%s)?$" $word) $value)) -}}
{{- $problems = append $problems (printf "%s.%s: %q can't be the value of a label: letters, digits, -, _ and ., at most 63 of them" $where $name $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $own := include "consumer.labels" (list . "consumer") | fromYaml | keys -}}
{{- $others := list "kubectl.kubernetes.io/default-container" "checksum/database-secret" "version/database-secret" "checksum/kafka-secret" "version/kafka-secret" -}}
{{- range list (list "podLabels" .Values.podLabels (append $own "app")) (list "serviceMonitor.labels" .Values.serviceMonitor.labels $own) (list "podAnnotations" .Values.podAnnotations $others) -}}
{{- $where := index . 0 -}}
{{- $taken := index . 2 -}}
{{- range $name, $_ := index . 1 -}}
{{- if has $name $taken -}}
{{- $problems = append $problems (printf "%s: %s is set by the chart" $where $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- range .Values.extraEnv -}}
{{- if not (regexMatch "^[-._a-zA-Z][-._a-zA-Z0-9]*$" .name) -}}
{{- $problems = append $problems (printf "extraEnv: %q can't be the name of a variable" .name) -}}
{{- end -}}
{{- if and .value .valueFrom -}}
{{- $problems = append $problems (printf "extraEnv: %s has both value and valueFrom" .name) -}}
{{- end -}}
{{- end -}}

{{- if not (first .Values.migration.command) -}}
{{- $problems = append $problems "migration.command: is empty; leave it out for alembic upgrade head" -}}
{{- end -}}

{{- $unavailable := toString .Values.podDisruptionBudget.maxUnavailable -}}
{{- if not (regexMatch "^[0-9]+%?$" $unavailable) -}}
{{- $problems = append $problems (printf "podDisruptionBudget.maxUnavailable: %q is neither a number of pods nor a percentage" $unavailable) -}}
{{- else if regexMatch "^0+%?$" $unavailable -}}
{{- $problems = append $problems (printf "podDisruptionBudget.maxUnavailable: %s would keep every node with a pod from being drained; give at least 1" $unavailable) -}}
{{- else if and (hasSuffix "%" $unavailable) (not (regexMatch "^0*([0-9]{1,2}|100)%$" $unavailable)) -}}
{{- $problems = append $problems (printf "podDisruptionBudget.maxUnavailable: %s is more than all pods" $unavailable) -}}
{{- end -}}

{{- $wrong := concat
  (include "consumer.resourceProblems" (list "resources" .Values.resources) | fromJsonArray)
  (include "consumer.resourceProblems" (list "migration.resources" .Values.migration.resources) | fromJsonArray)
-}}
{{- $problems = concat $problems $wrong -}}
{{- if and .Values.autoscaling.enabled (not $wrong) -}}
{{- $requests := .Values.resources.requests | default dict -}}
{{- $limits := .Values.resources.limits | default dict -}}
{{- with .Values.autoscaling -}}
{{- range list (list "CPU" "cpu" .targetCPUUtilizationPercentage) (list "Memory" "memory" .targetMemoryUtilizationPercentage) -}}
{{- $name := index . 1 -}}
{{- /* A limit without a request is a request, too. */ -}}
{{- $request := ternary (get $requests $name) (get $limits $name) (hasKey $requests $name) -}}
{{- if and (index . 2) (not (float64 (include "consumer.quantity" (toString $request)))) -}}
{{- $problems = append $problems (printf "autoscaling.target%sUtilizationPercentage: is a part of resources.requests.%s, which is not given; give it, or set the target to 0" (index . 0) $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- toJson $problems -}}
{{- end -}}
