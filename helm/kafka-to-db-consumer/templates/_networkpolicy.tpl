{{/* The rules for what pods may reach. */}}

{{- define "consumer.dnsEgress" -}}
# DNS, wherever it is: a node's cache has no pod.
- ports:
    - protocol: UDP
      port: 53
    - protocol: TCP
      port: 53
{{- end -}}

{{- define "consumer.databaseEgress" -}}
- ports:
    {{- range .Values.networkPolicy.database.ports | default (list .Values.database.port) }}
    - protocol: TCP
      port: {{ int . }}
    {{- end }}
  {{- with .Values.networkPolicy.database.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "consumer.kafkaEgress" -}}
{{- $ports := list -}}
{{- range splitList "," .Values.kafka.bootstrapServers -}}
{{- $ports = append $ports (splitList ":" . | last | trim) -}}
{{- end -}}
- ports:
    {{- range .Values.networkPolicy.kafka.ports | default ($ports | uniq) }}
    - protocol: TCP
      port: {{ int . }}
    {{- end }}
  {{- with .Values.networkPolicy.kafka.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
