{{/* What the pods of service, migration and test have in common. */}}

{{/* 10001 is the image's user. The group lets it read mounted keys. */}}
{{- define "consumer.podSecurity" -}}
enableServiceLinks: false
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "consumer.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{- define "consumer.scheduling" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Takes [context, whether Kafka's certificates are wanted]. */}}
{{- define "consumer.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- with index . 0 }}
{{- if .Values.database.tls.secretName }}
- name: database-certificates
  mountPath: /etc/loom/database
  readOnly: true
{{- end }}
{{- end }}
{{- if and (index . 1) (index . 0).Values.kafka.tls.secretName }}
- name: kafka-certificates
  mountPath: /etc/loom/kafka
  readOnly: true
{{- end }}
{{- end -}}

{{- define "consumer.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- with (index . 0).Values.database.tls }}
{{- if .secretName }}
{{ include "consumer.certificates" (list "database-certificates" .) }}
{{- end }}
{{- end }}
{{- if index . 1 }}
{{- with (index . 0).Values.kafka.tls }}
{{- if .secretName }}
{{ include "consumer.certificates" (list "kafka-certificates" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "consumer.certificates" -}}
{{- $tls := index . 1 -}}
- name: {{ index . 0 }}
  secret:
    secretName: {{ $tls.secretName | quote }}
    defaultMode: 0440
    items:
      {{- range list $tls.caKey $tls.certKey $tls.keyKey | compact | uniq }}
      - key: {{ . | quote }}
        path: {{ . | quote }}
      {{- end }}
{{- end -}}
