{{- define "etcdguardian.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (.Values.nameOverride | default .Chart.Name) .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name (.Values.nameOverride | default .Chart.Name) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "etcdguardian.selector" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "etcdguardian.labels" -}}
{{ include "etcdguardian.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "etcdguardian.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "etcdguardian.fullname" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "etcdguardian.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* The storageLocation of the one store that is enabled, as JSON; empty when none is. */ -}}
{{- define "etcdguardian.store" -}}
{{- $found := list }}
{{- range $key, $provider := dict "s3" "S3" "oss" "OSS" "gcs" "GCS" "azure" "Azure" }}
{{- $store := index $.Values.storage $key }}
{{- if $store.enabled }}
{{- $location := dict "provider" $provider "bucket" $store.bucket }}
{{- range $field := list "region" "endpoint" "prefix" "credentialsSecret" "addressing" }}
{{- with index $store $field }}{{ $_ := set $location $field . }}{{ end }}
{{- end }}
{{- if $store.useRAMRole }}{{ $_ := unset $location "credentialsSecret" }}{{ end }}
{{- $found = append $found $location }}
{{- end }}
{{- end }}
{{- if gt (len $found) 1 }}{{ fail "storage: enable one store, not several; a schedule may name another in its backup.storageLocation" }}{{ end }}
{{- if $found }}{{ first $found | toJson }}{{ end }}
{{- end }}

{{- /* The names of every Secret that the config names by file, each once, as JSON. */ -}}
{{- define "etcdguardian.secrets" -}}
{{- $names := .Values.extraSecrets }}
{{- with .Values.monitoring.alerts }}
{{- if .slack.enabled }}{{ $names = append $names .slack.secretName }}{{ end }}
{{- if .email.enabled }}{{ $names = append $names .email.secretName }}{{ end }}
{{- end }}
{{- $names | compact | uniq | toJson }}
{{- end }}

{{- /* The EtcdGuardianConfig. */ -}}
{{- define "etcdguardian.config" -}}
{{- $folder := "/etc/etcdguardian" }}
{{- $cluster := dict "name" .Values.etcd.clusterName "endpoints" .Values.etcd.endpoints }}
{{- with .Values.etcd.certificates.secretName }}{{ $_ := set $cluster "certificates" (dict "secretName" .) }}{{ end }}
{{- with .Values.etcd.auth.secretName }}{{ $_ := set $cluster "auth" (dict "secretName" .) }}{{ end }}
{{- $config := dict "apiVersion" "etcdguardian.io/v1alpha1" "kind" "EtcdGuardianConfig" "cluster" $cluster
      "serve" (dict "listen" "0.0.0.0:9180") "stateDir" "/var/lib/etcdguardian" "manifests" (printf "%s/manifests" $folder)
      "secretsDir" (printf "%s/secrets" $folder) "log" (dict "level" "info" "format" "Json") }}
{{- $jobs := dict "labels" .Values.jobs.podLabels "annotations" .Values.jobs.podAnnotations "nodeSelector" .Values.nodeSelector
      "tolerations" .Values.tolerations "hostNetwork" .Values.hostNetwork "scratchSize" .Values.scratch.sizeLimit
      "serviceAccountName" (include "etcdguardian.serviceAccount" .) "configMap" (printf "%s-config" (include "etcdguardian.fullname" .)) }}
{{- if .Values.jobs.enabled }}
{{- $_ := set $jobs "image" (include "etcdguardian.image" .) }}
{{- $_ := set $jobs "imagePullPolicy" .Values.image.pullPolicy }}
{{- $pull := list }}
{{- range .Values.imagePullSecrets }}{{ $pull = append $pull .name }}{{ end }}
{{- $_ := set $jobs "imagePullSecrets" $pull }}
{{- with .Values.jobs.resources }}{{ $_ := set $jobs "resources" . }}{{ end }}
{{- with .Values.affinity }}{{ $_ := set $jobs "affinity" . }}{{ end }}
{{- with .Values.priorityClassName }}{{ $_ := set $jobs "priorityClassName" . }}{{ end }}
{{- end }}
{{- $_ := set $config "operator" (dict "namespace" .Release.Namespace "trustedNamespaces" .Values.operator.trustedNamespaces
      "httpHookHosts" .Values.operator.httpHookHosts
      "concurrency" (int .Values.operator.concurrency) "historyLimit" (int .Values.operator.historyLimit)
      "leaderElection" (dict "enabled" .Values.leaderElection.enabled "leaseName" (include "etcdguardian.fullname" .)) "jobs" $jobs) }}
{{- with .Values.monitoring.prometheus }}
{{- if .url }}
{{- $prometheus := dict "url" .url }}
{{- with .credentialsSecret }}{{ $_ := set $prometheus "credentialsSecret" . }}{{ end }}
{{- $_ := set $config "prometheus" $prometheus }}
{{- end }}
{{- end }}
{{- with .Values.monitoring.tracing.endpoint }}{{ $_ := set $config "tracing" (dict "endpoint" .) }}{{ end }}
{{- with include "etcdguardian.store" . }}{{ $_ := set $config "store" (fromJson .) }}{{ end }}
{{- $channels := list }}
{{- with .Values.monitoring.alerts.slack }}
{{- if .enabled }}
{{- $secret := required "monitoring.alerts.slack.secretName: the Secret with the key webhook-url, or token" .secretName }}
{{- if .channel }}
{{- $channels = append $channels (dict "name" "slack" "slack" (dict "tokenFile" (printf "%s/secrets/%s/token" $folder $secret) "channel" .channel)) }}
{{- else }}
{{- $channels = append $channels (dict "name" "slack" "slack" (dict "webhookURLFile" (printf "%s/secrets/%s/webhook-url" $folder $secret))) }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.monitoring.alerts.email }}
{{- if .enabled }}
{{- $smtp := dict "host" (required "monitoring.alerts.email.host" .host) "tls" .tls }}
{{- with .port }}{{ $_ := set $smtp "port" (int .) }}{{ end }}
{{- $base := printf "%s/secrets/%s" $folder .secretName }}
{{- if .secretName }}{{ $_ := set $smtp "usernameFile" (printf "%s/username" $base) }}{{ $_ := set $smtp "passwordFile" (printf "%s/password" $base) }}{{ end }}
{{- $email := dict "smtp" $smtp "from" (required "monitoring.alerts.email.from" .from) "to" (required "monitoring.alerts.email.to" .to) }}
{{- $channels = append $channels (dict "name" "email" "email" $email) }}
{{- end }}
{{- end }}
{{- $_ := set $config "alerts" (dict "channels" $channels "repeatInterval" .Values.monitoring.alerts.repeatInterval) }}
{{- toYaml $config }}
{{- end }}

{{- /* The EtcdBackupSchedule resources, one document each. */ -}}
{{- define "etcdguardian.schedules" -}}
{{- $store := include "etcdguardian.store" . }}
{{- range $name, $schedule := .Values.schedules }}
{{- if $schedule }}
{{- $backup := deepCopy ($schedule.backup | default dict) }}
{{- if not $backup.backupMode }}{{ $_ := set $backup "backupMode" "Full" }}{{ end }}
{{- if and $store (not $backup.storageLocation) }}{{ $_ := set $backup "storageLocation" (fromJson $store) }}{{ end }}
{{- if $backup.storageLocation }}
{{- $optimization := deepCopy $.Values.aiOptimization }}
{{- range $key, $value := $schedule.aiOptimization }}{{ $_ := set $optimization $key $value }}{{ end }}
{{- $spec := dict "schedule" $schedule.schedule "backupTemplate" (dict "spec" $backup) "aiOptimization" $optimization }}
{{- range $field := list "suspend" "immediate" "timeZone" }}
{{- with index $schedule $field }}{{ $_ := set $spec $field . }}{{ end }}
{{- end }}
---
{{ toYaml (dict "apiVersion" "etcdguardian.io/v1alpha1" "kind" "EtcdBackupSchedule"
    "metadata" (dict "name" $name "namespace" $.Release.Namespace) "spec" $spec) }}
{{ end }}
{{- end }}
{{- end }}
{{- end }}
