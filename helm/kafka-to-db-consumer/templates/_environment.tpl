{{/* The variables of docs/settings.md. They stand in the pod's template, not in a ConfigMap: a changed value rolls the
pods, and a pod of the old revision that restarts meanwhile keeps the old ones. */}}

{{/* A URL without the password, which the driver takes from PGPASSWORD: in a URL it would have to be percent-encoded,
and nothing in a pod's specification can do that. Takes [context, user]. */}}
{{- define "consumer.databaseUrl" -}}
{{- $user := index . 1 -}}
{{- with (index . 0).Values.database -}}
{{- $port := int .port -}}
{{- $hosts := list -}}
{{- range splitList "," .host -}}
{{- $hosts = append $hosts (printf "%s:%d" (trim .) $port) -}}
{{- end -}}
{{- $query := list (printf "sslmode=%s" .tls.mode) -}}
{{- if .tls.secretName -}}
{{- $query = append $query (printf "sslrootcert=/etc/loom/database/%s" .tls.caKey) -}}
{{- if .tls.certKey -}}
{{- $query = append $query (printf "sslcert=/etc/loom/database/%s" .tls.certKey) -}}
{{- $query = append $query (printf "sslkey=/etc/loom/database/%s" .tls.keyKey) -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := .parameters -}}
{{- $query = append $query (printf "%s=%s" $name (toString $value | urlquery | replace "+" "%20")) -}}
{{- end -}}
postgresql://{{ $user | urlquery | replace "+" "%20" }}@{{ join "," $hosts }}/{{ .name | urlquery | replace "+" "%20" }}?{{ join "&" $query }}
{{- end -}}
{{- end -}}

{{- define "consumer.timescaleEnvironment" -}}
- name: LOOM_TIMESCALE
  {{- /* YAML reads a bare off as false. */}}
  value: {{ .Values.database.timescale | default "off" | quote }}
{{- end -}}

{{- define "consumer.environment" -}}
{{- with .Values.kafka -}}
- name: LOOM_KAFKA_BOOTSTRAP_SERVERS
  value: {{ .bootstrapServers | nospace | quote }}
- name: LOOM_KAFKA_GROUP_ID
  value: {{ .groupId | quote }}
- name: LOOM_KAFKA_BATCH_SIZE
  value: {{ .batchSize | int64 | quote }}
- name: LOOM_KAFKA_BATCH_TIMEOUT
  value: {{ .batchTimeout | toString | quote }}
- name: LOOM_KAFKA_MAX_POLL_RECORDS
  value: {{ .maxPollRecords | int64 | quote }}
- name: LOOM_KAFKA_FETCH_MAX_BYTES
  value: {{ .fetchMaxBytes | int64 | quote }}
- name: LOOM_KAFKA_SESSION_TIMEOUT_MS
  value: {{ .sessionTimeoutMs | int64 | quote }}
- name: LOOM_KAFKA_AUTO_OFFSET_RESET
  value: {{ .autoOffsetReset | quote }}
- name: LOOM_KAFKA_ON_MISSING_OFFSETS
  value: {{ .onMissingOffsets | quote }}
- name: LOOM_KAFKA_SECURITY_PROTOCOL
  value: {{ .securityProtocol | quote }}
{{- if hasPrefix "SASL_" .securityProtocol }}
- name: LOOM_KAFKA_SASL_MECHANISM
  value: {{ .sasl.mechanism | quote }}
- name: LOOM_KAFKA_SASL_USERNAME
  value: {{ .sasl.username | quote }}
- name: LOOM_KAFKA_SASL_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "consumer.saslSecret" $ | quote }}
      key: {{ .sasl.secret.key | quote }}
{{- end }}
{{- if .tls.secretName }}
- name: LOOM_KAFKA_SSL_CA_FILE
  value: /etc/loom/kafka/{{ .tls.caKey }}
{{- if .tls.certKey }}
- name: LOOM_KAFKA_SSL_CERT_FILE
  value: /etc/loom/kafka/{{ .tls.certKey }}
- name: LOOM_KAFKA_SSL_KEY_FILE
  value: /etc/loom/kafka/{{ .tls.keyKey }}
{{- end }}
{{- end }}
{{- end }}
- name: LOOM_DATABASE_URL
  value: {{ include "consumer.databaseUrl" (list . .Values.database.user) | quote }}
- name: PGPASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "consumer.databaseSecret" . | quote }}
      key: {{ .Values.database.secret.key | quote }}
- name: LOOM_DB_MIN_POOL_SIZE
  value: {{ .Values.database.pool.min | int64 | quote }}
- name: LOOM_DB_MAX_POOL_SIZE
  value: {{ .Values.database.pool.max | int64 | quote }}
{{ include "consumer.timescaleEnvironment" . }}
- name: LOOM_TOPICS
  value: {{ .Values.topics | quote }}
- name: LOOM_HTTP_PORT
  value: {{ .Values.httpPort | int64 | quote }}
- name: LOOM_SHUTDOWN_GRACE
  value: {{ .Values.shutdownGraceSeconds | toString | quote }}
- name: LOOM_LOG_LEVEL
  value: {{ .Values.logLevel | quote }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "consumer.migrationEnvironment" -}}
- name: LOOM_DATABASE_URL
  value: {{ include "consumer.databaseUrl" (list . .Values.database.user) | quote }}
{{- with .Values.migration.user }}
- name: LOOM_MIGRATION_DATABASE_URL
  value: {{ include "consumer.databaseUrl" (list $ .) | quote }}
{{- end }}
- name: PGPASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "consumer.migrationSecret" . | quote }}
      key: {{ (include "consumer.migrationSecretValues" . | fromJson).key | quote }}
{{ include "consumer.timescaleEnvironment" . }}
- name: LOOM_TOPICS
  value: {{ .Values.topics | quote }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
