{{- define "semcom-codec-runtime.fullname" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "semcom-codec-runtime.namespace" -}}
{{- default .Release.Namespace .Values.namespace -}}
{{- end -}}

{{- define "semcom-codec-runtime.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "semcom-codec-runtime.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "semcom-codec-runtime.claim" -}}
{{- default (printf "%s-state" (include "semcom-codec-runtime.fullname" .)) .Values.persistence.existingClaim -}}
{{- end -}}

{{- define "semcom-codec-runtime.selectorLabels" -}}
app.kubernetes.io/name: {{ include "semcom-codec-runtime.fullname" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "semcom-codec-runtime.labels" -}}
{{ include "semcom-codec-runtime.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: data-plane
app.kubernetes.io/part-of: semcom
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "semcom-codec-runtime.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .registry }}/{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .registry }}/{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" under mutual TLS, empty on a closed network; anything else is refused here rather than by the pod. */}}
{{- define "semcom-codec-runtime.mtls" -}}
{{- if .Values.tls.secretName -}}
true
{{- else if not .Values.tls.allowInsecure -}}
{{- fail "tls.secretName is needed: the runtime takes directives and weights over the network only under mutual TLS (tls.allowInsecure=true on a closed testbed network)" -}}
{{- end -}}
{{- end -}}

{{/* A probe: kubelet's own HTTP probes have no client certificate, so under mutual TLS the container asks itself. */}}
{{- define "semcom-codec-runtime.probe" -}}
{{- if include "semcom-codec-runtime.mtls" .context -}}
exec:
  command:
    - python3
    - -c
    - |
      import ssl, urllib.request
      context = ssl._create_unverified_context()
      context.load_cert_chain("/etc/semcom/tls/tls.crt", "/etc/semcom/tls/tls.key")
      opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
      opener.open("https://127.0.0.1:{{ .context.Values.service.port }}{{ .path }}", timeout=4)
{{- else -}}
httpGet:
  path: {{ .path }}
  port: http
{{- end -}}
{{- end -}}
