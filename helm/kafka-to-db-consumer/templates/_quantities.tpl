{{/* Kubernetes' quantities, as in resources. */}}

{{- define "consumer.quantityPattern" -}}
^([0-9]+[.]?[0-9]*|[.][0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][-+]?[0-9]+)?$
{{- end -}}

{{/* One of them as a number: cores or bytes. */}}
{{- define "consumer.quantity" -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- $suffix := trimPrefix $number . -}}
{{- $factors := dict "n" 0.000000001 "u" 0.000001 "m" 0.001 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000
  "P" 1000000000000000 "E" 1000000000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776
  "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- if hasKey $factors $suffix -}}
{{- mulf (float64 $number) (get $factors $suffix) -}}
{{- else -}}
{{- float64 . -}}
{{- end -}}
{{- end -}}

{{/* What is wrong with a container's resources, as a JSON list. Takes [where, resources]. */}}
{{- define "consumer.resourceProblems" -}}
{{- $where := index . 0 -}}
{{- $resources := index . 1 -}}
{{- $problems := list -}}
{{- range $kind, $quantities := $resources -}}
{{- range $name, $quantity := $quantities -}}
{{- $value := printf "%s.%s.%s" $where $kind $name -}}
{{- $quantity = toString $quantity -}}
{{- if not (regexMatch "^(cpu|memory|ephemeral-storage|hugepages-.+|.+/.+)$" $name) -}}
{{- $problems = append $problems (printf "%s: a container knows no such resource; cpu, memory and ephemeral-storage it knows" $value) -}}
{{- else if not (regexMatch (include "consumer.quantityPattern" .) $quantity) -}}
{{- $problems = append $problems (printf "%s: %q is no quantity; %s are" $value $quantity (ternary "500m and 2" "512Mi and 1Gi" (eq $name "cpu"))) -}}
{{- else if and (ne $name "cpu") (regexMatch "[num]$" $quantity) -}}
{{- $problems = append $problems (printf "%s: %q is a part of a byte; 512Mi and 1Gi are bytes" $value $quantity) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not $problems -}}
{{- $limits := $resources.limits | default dict -}}
{{- range $name, $request := $resources.requests -}}
{{- if hasKey $limits $name -}}
{{- $limit := get $limits $name -}}
{{- if gt (float64 (include "consumer.quantity" (toString $request))) (float64 (include "consumer.quantity" (toString $limit))) -}}
{{- $problems = append $problems (printf "%s.requests.%s: %v is more than %s.limits.%s, %v" $where $name $request $where $name $limit) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end -}}
