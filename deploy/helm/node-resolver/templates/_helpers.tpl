{{/* The name of all objects: the release's, or node-resolver behind it. */}}
{{- define "node-resolver.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "node-resolver.selectorLabels" -}}
k8s-app: {{ include "node-resolver.fullname" . }}
{{- end }}

{{- define "node-resolver.labels" -}}
{{ include "node-resolver.selectorLabels" . }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "node-resolver.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "node-resolver.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "node-resolver.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The Service of the cluster's DNS under an address that is not ours. */}}
{{- define "node-resolver.upstream" -}}
{{ .Values.config.customUpstreamsvc | default "kube-dns-upstream" }}
{{- end }}

{{/* -localip: the link-local address, and the ClusterIP of kube-dns unless somebody else has it. */}}
{{- define "node-resolver.localip" -}}
{{ .Values.config.localDns }}
{{- if .Values.config.interceptClusterIP -}}
,{{ .Values.config.dnsServer | default "$(KUBE_DNS_SERVICE_HOST)" }}
{{- end -}}
{{- end }}

{{/* `errors`, `log` and `bind` of a server block. */}}
{{- define "node-resolver.front" -}}
{{- if and .Values.hostNetwork .Values.config.bindIp }}
    bind __PILLAR__LOCAL__DNS__
{{- end }}
    errors {
        consolidate 30s ".* timed out" warning show_first
    }
{{- if .Values.config.enableLogging }}
    log
{{- end }}
{{- end }}

{{/* What all caches have in common; a duration is what the blocks differ in. */}}
{{- define "node-resolver.cache" -}}
{{- with .root.Values.config.prefetch }}
{{- if .enabled }}
        prefetch {{ .amount }} {{ $.duration }} {{ .percentage }}
{{- end }}
{{- end }}
{{- with .root.Values.config.serveStale }}
{{- if .enabled }}
        serve_stale {{ .duration }} verify {{ .timeout }}
        serve_stale_policy prefer_positive
{{- end }}
{{- end }}
{{- end }}
