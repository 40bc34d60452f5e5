{{/* The Corefile: the cluster's names to the cluster's DNS, all others to whom the node asks. deploy/base/Corefile
explains each line. */}}
{{- define "node-resolver.corefile" -}}
{{ .Values.config.dnsDomain }} in-addr.arpa ip6.arpa {
{{- include "node-resolver.front" . }}
    cache {{ .Values.config.cacheTTL }} {
        success 9984 {{ .Values.config.cacheTTL }}
        denial 9984 {{ .Values.config.denialTTL }}
{{- include "node-resolver.cache" (dict "root" . "duration" .Values.config.prefetch.duration) }}
    }
    loadbalance
{{- if .Values.config.directUpstream }}
    forward . kube-dns-direct.kube-system.svc.{{ .Values.config.dnsDomain }} {
        resolver __PILLAR__CLUSTER__DNS__
{{- else }}
    forward . __PILLAR__CLUSTER__DNS__ {
{{- end }}
        {{ .Values.config.commProtocol }}
    }
    loop
    reload
    prometheus :9253
    health {{ if and .Values.hostNetwork .Values.config.bindIp }}__PILLAR__LOCAL__DNS__{{ end }}:{{ .Values.config.healthPort }} {
        lameduck {{ .Values.config.lameduck }}
    }
}

. {
{{- include "node-resolver.front" . }}
    cache {
        success 9984 {{ .Values.config.externalCacheTTL }}
        denial 9984 {{ .Values.config.externalDenialTTL }}
{{- include "node-resolver.cache" (dict "root" . "duration" .Values.config.prefetch.externalDuration) }}
    }
    forward . {{ .Values.config.upstreamServers }} {
{{- range .Values.config.upstreamForwardConfig }}
        {{ . }}
{{- end }}
    }
    loop
    reload
    prometheus :9253
}
{{- end }}
