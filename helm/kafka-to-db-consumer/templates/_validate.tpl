{{/* What values.schema.json can't say, or can't say in words. All that is wrong is told at once. */}}
{{- define "consumer.validate" -}}
{{- $problems := include "consumer.kubernetesProblems" . | fromJsonArray -}}

{{- range splitList "," .Values.kafka.bootstrapServers -}}
{{- if not (regexMatch "^(\\[[0-9a-fA-F:.]+\\]|[A-Za-z0-9._-]+):[0-9]{1,5}$" (trim .)) -}}
{{- $problems = append $problems (printf "kafka.bootstrapServers: %q is not host:port" (trim .)) -}}
{{- else if not (and (ge (splitList ":" . | last | trim | atoi) 1) (le (splitList ":" . | last | trim | atoi) 65535)) -}}
{{- $problems = append $problems (printf "kafka.bootstrapServers: %q has no port from 1 to 65535" (trim .)) -}}
{{- end -}}
{{- end -}}
{{- range splitList "," .Values.database.host -}}
{{- if not (regexMatch "^(\\[[0-9a-fA-F:.]+\\]|[A-Za-z0-9._-]+)$" (trim .)) -}}
{{- $problems = append $problems (printf "database.host: %q is no host name; the port is database.port, the rest of a URL has values of its own" (trim .)) -}}
{{- end -}}
{{- end -}}
{{- range $where, $value := dict "kafka.groupId" .Values.kafka.groupId "database.name" .Values.database.name "database.user" .Values.database.user "topics" .Values.topics "image.repository" .Values.image.repository -}}
{{- if not (trim $value) -}}
{{- $problems = append $problems (printf "%s: is empty" $where) -}}
{{- end -}}
{{- end -}}

{{- if gt (int .Values.database.pool.min) (int .Values.database.pool.max) -}}
{{- $problems = append $problems (printf "database.pool: min (%d) is greater than max (%d)" (int .Values.database.pool.min) (int .Values.database.pool.max)) -}}
{{- end -}}

{{- if and .Values.autoscaling.enabled .Values.keda.enabled -}}
{{- $problems = append $problems "autoscaling.enabled and keda.enabled: two autoscalers of one Deployment work against each other; set autoscaling.enabled=false to scale by lag, or keda.enabled=false to scale by CPU and memory" -}}
{{- end -}}
{{- range $name, $scaler := dict "autoscaling" .Values.autoscaling "keda" .Values.keda -}}
{{- if gt (int $scaler.minReplicas) (int $scaler.maxReplicas) -}}
{{- $problems = append $problems (printf "%s: minReplicas (%d) is greater than maxReplicas (%d)" $name (int $scaler.minReplicas) (int $scaler.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (not .Values.autoscaling.targetCPUUtilizationPercentage) (not .Values.autoscaling.targetMemoryUtilizationPercentage) -}}
{{- $problems = append $problems "autoscaling: both targets are 0, so there is nothing to scale by; set autoscaling.enabled=false for a fixed number of pods" -}}
{{- end -}}

{{- if not (regexMatch "^[0-9]+(ms|s|m|h)$" .Values.serviceMonitor.interval) -}}
{{- $problems = append $problems (printf "serviceMonitor.interval: %q is no duration like 15s" .Values.serviceMonitor.interval) -}}
{{- end -}}
{{/* --set makes a text of a fraction: 0.25 comes as "0.25". */}}
{{- range $where, $seconds := dict "kafka.batchTimeout" .Values.kafka.batchTimeout "shutdownGraceSeconds" .Values.shutdownGraceSeconds -}}
{{- if and (kindIs "string" $seconds) (not (regexMatch "^[0-9]+([.][0-9]+)?$" $seconds)) -}}
{{- $problems = append $problems (printf "%s: %q is no number of seconds; 20 and 0.25 are" $where $seconds) -}}
{{- else if not (float64 $seconds) -}}
{{- $problems = append $problems (printf "%s: must be more than 0" $where) -}}
{{- else if and (eq $where "kafka.batchTimeout") (gt (float64 $seconds) 60.0) -}}
{{- $problems = append $problems (printf "%s: %v is more than 60" $where $seconds) -}}
{{- else if eq $where "shutdownGraceSeconds" -}}
{{- $least := add (floor $seconds) 11 -}}
{{- if lt (int $.Values.terminationGracePeriodSeconds) (int $least) -}}
{{- $problems = append $problems (printf "terminationGracePeriodSeconds: %d is too short: a stopping pod takes shutdownGraceSeconds (%v) to write and up to 10 s to leave the group; give at least %d" (int $.Values.terminationGracePeriodSeconds) $seconds $least) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Secrets: [value, secret, whether it is used]. */}}
{{- $sasl := hasPrefix "SASL_" .Values.kafka.securityProtocol -}}
{{- $secrets := list
  (list "database.secret" .Values.database.secret true)
  (list "kafka.sasl.secret" .Values.kafka.sasl.secret $sasl)
  (list "migration.secret" .Values.migration.secret (ne .Values.migration.user ""))
-}}
{{- range $secrets -}}
{{- $where := index . 0 -}}
{{- $secret := index . 1 -}}
{{- if and $secret.password (not $secret.create) -}}
{{- $problems = append $problems (printf "%s.password: is only used with %s.create=true; without, the password is in the Secret that %s.name names" $where $where $where) -}}
{{- else if and $secret.create (not $secret.password) -}}
{{- $problems = append $problems (printf "%s.create: needs %s.password; or make the Secret yourself and name it in %s.name" $where $where $where) -}}
{{- else if and (index . 2) (not $secret.create) (not $secret.name) -}}
{{- $problems = append $problems (printf "%s.name: is empty: name the Secret that has the password under %s.key (%q)" $where $where $secret.key) -}}
{{- end -}}
{{- if and (index . 2) (not (regexMatch "^[-._a-zA-Z0-9]+$" $secret.key)) -}}
{{- $problems = append $problems (printf "%s.key: %q can't be a key of a Secret" $where $secret.key) -}}
{{- end -}}
{{- end -}}
{{- if and (not .Values.migration.user) (or .Values.migration.secret.create .Values.migration.secret.name) -}}
{{- $problems = append $problems "migration.secret: is only used with migration.user, the role that owns the tables" -}}
{{- end -}}

{{- if and $sasl (not .Values.kafka.sasl.username) -}}
{{- $problems = append $problems (printf "kafka.sasl.username: %s needs a login" .Values.kafka.securityProtocol) -}}
{{- end -}}
{{- if and (not $sasl) .Values.kafka.sasl.username -}}
{{- $problems = append $problems (printf "kafka.sasl.username: kafka.securityProtocol %s knows no login; SASL_SSL or SASL_PLAINTEXT does" .Values.kafka.securityProtocol) -}}
{{- end -}}
{{- if and .Values.kafka.tls.secretName (not (hasSuffix "SSL" .Values.kafka.securityProtocol)) -}}
{{- $problems = append $problems (printf "kafka.tls.secretName: kafka.securityProtocol %s knows no certificates; SSL or SASL_SSL does" .Values.kafka.securityProtocol) -}}
{{- end -}}
{{- if and (has .Values.database.tls.mode (list "verify-ca" "verify-full")) (not .Values.database.tls.secretName) -}}
{{- $problems = append $problems (printf "database.tls.secretName: mode %s needs the certificates that the server's is checked against" .Values.database.tls.mode) -}}
{{- end -}}
{{/* libpq's rule, and asyncpg's: certificates or not, these three take whoever answers. */}}
{{- if and .Values.database.tls.secretName (has .Values.database.tls.mode (list "disable" "allow" "prefer")) -}}
{{- $problems = append $problems (printf "database.tls.mode: %q checks nobody, whatever database.tls.secretName has; verify-full checks the server's certificate and name, verify-ca and require the certificate" .Values.database.tls.mode) -}}
{{- end -}}
{{- range $where, $tls := dict "kafka.tls" .Values.kafka.tls "database.tls" .Values.database.tls -}}
{{- if ne (empty $tls.certKey) (empty $tls.keyKey) -}}
{{- $problems = append $problems (printf "%s: certKey and keyKey go together" $where) -}}
{{- else if and $tls.certKey (not $tls.secretName) -}}
{{- $problems = append $problems (printf "%s.certKey: needs %s.secretName" $where $where) -}}
{{- end -}}
{{- if and $tls.secretName (not $tls.caKey) -}}
{{- $problems = append $problems (printf "%s.caKey: is empty" $where) -}}
{{- end -}}
{{- range list "caKey" "certKey" "keyKey" -}}
{{- if and (get $tls .) (not (regexMatch "^[-._a-zA-Z0-9]+$" (get $tls .))) -}}
{{- $problems = append $problems (printf "%s.%s: %q can't be a key of a Secret" $where . (get $tls .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := .Values.database.parameters -}}
{{- if not (regexMatch "^[A-Za-z_]+$" $name) -}}
{{- $problems = append $problems (printf "database.parameters: %q can't be the name of a parameter" $name) -}}
{{- end -}}
{{- if has $name (list "sslmode" "sslrootcert" "sslcert" "sslkey" "user" "password" "host" "port" "dbname" "database" "passfile") -}}
{{- $problems = append $problems (printf "database.parameters: %s has a value of its own under database" $name) -}}
{{- end -}}
{{- end -}}

{{- if not $problems -}}
{{- $twice := list -}}
{{- range list "consumer.environment" "consumer.migrationEnvironment" -}}
{{- $seen := list -}}
{{- range include . $ | fromYamlArray -}}
{{- if has .name $seen -}}
{{- $twice = append $twice .name -}}
{{- end -}}
{{- $seen = append $seen .name -}}
{{- end -}}
{{- end -}}
{{- range uniq $twice -}}
{{- $problems = append $problems (printf "extraEnv: %s is there twice, or set by the chart from a value of its own" .) -}}
{{- end -}}
{{- end -}}

{{/* Nothing below is known where no cluster is asked (helm template). A namespace has this account, always. */}}
{{- if lookup "v1" "ServiceAccount" .Release.Namespace "default" -}}
{{- $wanted := list -}}
{{- range $secrets -}}
{{- $secret := index . 1 -}}
{{- if and (index . 2) (not $secret.create) $secret.name -}}
{{- $wanted = append $wanted (list (printf "%s.name" (index . 0)) $secret.name (list $secret.key) (printf "--from-literal=%s='…'" $secret.key)) -}}
{{- end -}}
{{- end -}}
{{- range $where, $tls := dict "kafka.tls" .Values.kafka.tls "database.tls" .Values.database.tls -}}
{{- if $tls.secretName -}}
{{- $keys := list $tls.caKey $tls.certKey $tls.keyKey | compact | uniq -}}
{{- $files := list -}}
{{- range $keys -}}
{{- $files = append $files (printf "--from-file=%s" .) -}}
{{- end -}}
{{- $wanted = append $wanted (list (printf "%s.secretName" $where) $tls.secretName $keys (join " " $files)) -}}
{{- end -}}
{{- end -}}
{{- range $wanted -}}
{{- $where := index . 0 -}}
{{- $name := index . 1 -}}
{{- $found := lookup "v1" "Secret" $.Release.Namespace $name -}}
{{- if not $found -}}
{{- $problems = append $problems (printf "%s: there is no Secret %q in namespace %s; make it: kubectl create secret generic %s -n %s %s" $where $name $.Release.Namespace $name $.Release.Namespace (index . 3)) -}}
{{- else -}}
{{- range index . 2 -}}
{{- if not (hasKey ($found.data | default dict) .) -}}
{{- $problems = append $problems (printf "%s: Secret %q has no key %q; it has %s" $where $name . ($found.data | default dict | keys | sortAlpha | join ", " | default "none")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Helm creates what is new before it deletes what is old, and KEDA's admission webhook refuses a second autoscaler:
without this, after the migration. */}}
{{- if and .Values.keda.enabled (not .Values.autoscaling.enabled) -}}
{{- with lookup "autoscaling/v2" "HorizontalPodAutoscaler" .Release.Namespace (include "consumer.fullname" .) -}}
{{- $problems = append $problems (printf "keda.enabled: HorizontalPodAutoscaler %s is still there, and KEDA takes no Deployment that another autoscaler has. In two upgrades: first autoscaling.enabled=false and replicaCount=%d, which removes it; then keda.enabled=true" .metadata.name (int (dig "status" "currentReplicas" .spec.minReplicas .))) -}}
{{- end -}}
{{- end -}}

{{- if $problems -}}
{{- fail (printf "\n\n%s\n" (join "\n" $problems)) -}}
{{- end -}}
{{- end -}}
