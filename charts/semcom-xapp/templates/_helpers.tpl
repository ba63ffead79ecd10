{{- define "semcom-xapp.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "semcom-xapp.namespace" -}}
{{- default .Release.Namespace .Values.namespace -}}
{{- end -}}

{{/* The platform derives names of services and ConfigMap from <namespace>-<xApp name>. */}}
{{- define "semcom-xapp.fullname" -}}
{{- printf "%s-%s" (include "semcom-xapp.namespace" .) (include "semcom-xapp.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "semcom-xapp.httpService" -}}
service-{{ include "semcom-xapp.fullname" . }}-http
{{- end -}}

{{- define "semcom-xapp.rmrService" -}}
service-{{ include "semcom-xapp.fullname" . }}-rmr
{{- end -}}

{{- define "semcom-xapp.configMap" -}}
configmap-{{ include "semcom-xapp.fullname" . }}-appconfig
{{- end -}}

{{- define "semcom-xapp.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "semcom-xapp.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "semcom-xapp.claim" -}}
{{- default (printf "%s-state" (include "semcom-xapp.fullname" .)) .Values.persistence.existingClaim -}}
{{- end -}}

{{- define "semcom-xapp.selectorLabels" -}}
app: {{ include "semcom-xapp.fullname" . }}
app.kubernetes.io/name: {{ include "semcom-xapp.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "semcom-xapp.labels" -}}
{{ include "semcom-xapp.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: control-plane
app.kubernetes.io/part-of: semcom
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "semcom-xapp.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .registry }}/{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .registry }}/{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The descriptor as this release runs it: ports, image, probes and controls are the release's. */}}
{{- define "semcom-xapp.configFile" -}}
{{- $name := include "semcom-xapp.name" . -}}
{{- $file := .Files.Get "files/config-file.json" | fromJson -}}
{{- $controls := $file.controls -}}
{{- $_ := set $controls "rmr_port" (int .Values.service.rmrData.port) -}}
{{- $_ := set $controls "http_port" (int .Values.service.http.port) -}}
{{- $_ := set $controls "notification_url" (printf "http://%s.%s:%d" (include "semcom-xapp.httpService" .) (include "semcom-xapp.namespace" .) (int .Values.service.http.port)) -}}
{{- range $key := list "submgr_url" "submgr_admin_url" "appmgr_url" -}}
{{- $_ := set $controls $key (get $controls $key | replace "ricplt" $.Values.platform.namespace) -}}
{{- end -}}
{{- if .Values.tls.secretName -}}
{{- $_ := set $controls "tls_ca" "/etc/semcom/tls/ca.crt" -}}
{{- $_ := set $controls "tls_cert" "/etc/semcom/tls/tls.crt" -}}
{{- $_ := set $controls "tls_key" "/etc/semcom/tls/tls.key" -}}
{{- end -}}
{{- if .Values.signing.keysSecretName -}}
{{- $_ := set $controls "key_dir" "/etc/semcom/keys" -}}
{{- end -}}
{{- range $key, $value := .Values.controls -}}
{{- $_ := set $controls $key $value -}}
{{- end -}}
{{- $ports := list -}}
{{- $numbers := dict "http" .Values.service.http.port "rmrdata" .Values.service.rmrData.port "rmrroute" .Values.service.rmrRoute.port -}}
{{- range $file.messaging.ports -}}
{{- $ports = append $ports (merge (dict "container" $name "port" (int (get $numbers .name))) .) -}}
{{- end -}}
{{- $_ := set $file "xapp_name" $name -}}
{{- $_ := set $file "version" .Chart.AppVersion -}}
{{- $_ := set $file "containers" (list (dict "name" $name "image" (dict "registry" .Values.image.registry "name" .Values.image.repository "tag" (default .Chart.AppVersion .Values.image.tag)))) -}}
{{- $_ := set $file "messaging" (dict "ports" $ports) -}}
{{- $port := int .Values.service.http.port -}}
{{- $_ := set $file.livenessProbe.httpGet "port" $port -}}
{{- $_ := set $file.readinessProbe.httpGet "port" $port -}}
{{- $_ := set $file.annotations "prometheus.io/port" (toString $port) -}}
{{- $file | toPrettyJson -}}
{{- end -}}
