{{/* What the names of the objects begin with: short enough that every suffix fits into 63 characters. */}}
{{- define "usher.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "usher.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels of an object; takes (list $ COMPONENT), with an empty component for what belongs to all. */}}
{{- define "usher.labels" -}}
{{- $root := index . 0 -}}
{{- $own := include "usher.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "usher" -}}
{{- $_ := set $own "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
{{- toYaml (merge $own $root.Values.commonLabels) -}}
{{- end -}}

{{/* Labels that select a component's pods; they never change. Takes (list $ COMPONENT). */}}
{{- define "usher.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "usher.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- with index . 1 }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* Name of a component's service account; takes (list $ COMPONENT). */}}
{{- define "usher.serviceAccountName" -}}
{{- $root := index . 0 -}}
{{- $account := (index $root.Values (index . 1)).serviceAccount -}}
{{- if $account.create -}}
{{- default (printf "%s-%s" (include "usher.fullname" $root) (index . 1)) $account.name -}}
{{- else -}}
{{- default "default" $account.name -}}
{{- end -}}
{{- end -}}

{{/* Metadata and the rest of a component's service account; takes (list $ COMPONENT ANNOTATIONS). */}}
{{- define "usher.serviceAccount" -}}
{{- $root := index . 0 -}}
{{- $account := (index $root.Values (index . 1)).serviceAccount -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "usher.serviceAccountName" . }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "usher.labels" . | nindent 4 }}
  {{- with merge (dict) (index . 2) $account.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end -}}

{{- define "usher.image" -}}
{{- $repository := required "image.repository is required: where the cluster pulls the image from" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The settings that are no secret, as in the ConfigMap. */}}
{{- define "usher.settings" -}}
USHER_APPLY_WAIT: {{ .Values.applyWait | quote }}
USHER_DRAIN_LIFETIME: {{ .Values.worker.drainLifetime | quote }}
USHER_LOG_LEVEL: {{ .Values.logLevel | quote }}
USHER_METRICS_DIR: /run/usher/metrics
USHER_PUBLIC_URL: {{ required "publicUrl is required: the base URL of the shared host, like https://scim.example.com" .Values.publicUrl | trimSuffix "/" | quote }}
USHER_TRUSTED_PROXIES: {{ join "," .Values.api.trustedProxies | quote }}
{{- end -}}

{{/* The settings that are secret, as environment variables out of the Secrets that exist. */}}
{{- define "usher.secretEnv" -}}
- name: USHER_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ required "database.existingSecret is required: the name of a Secret with the PostgreSQL URLs" .Values.database.existingSecret }}
      key: {{ .Values.database.urlKey }}
- name: USHER_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ required "redis.existingSecret is required: the name of a Secret with the URL of Valkey or Redis" .Values.redis.existingSecret }}
      key: {{ .Values.redis.urlKey }}
{{- end -}}

{{/* Metadata of a component's pods, without the chart's version, which alone restarts nobody; takes (list $ COMPONENT). */}}
{{- define "usher.podMetadata" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
{{- $checksum := dict "checksum/config" (include "usher.settings" $root | sha256sum) -}}
{{- $own := include "usher.selectorLabels" . | fromYaml -}}
annotations:
  {{- toYaml (merge $checksum $values.podAnnotations) | nindent 2 }}
labels:
  {{- toYaml (merge $own $values.podLabels $root.Values.commonLabels) | nindent 2 }}
{{- end -}}

{{/* What the pods of all components have alike; takes (list $ COMPONENT). */}}
{{- define "usher.podSpec" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
serviceAccountName: {{ include "usher.serviceAccountName" . }}
automountServiceAccountToken: {{ eq (index . 1) "operator" }}
# A Service's variables would read as settings (USHER_…).
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  {{- range $key, $id := $root.Values.podSecurityContext }}
  {{- if not (kindIs "invalid" $id) }}
  {{ $key }}: {{ int64 $id }}
  {{- end }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
- name: metrics
  emptyDir:
    medium: Memory
    sizeLimit: 64Mi
{{- end -}}

{{/* What the containers of all components have alike; takes (list $ COMPONENT). */}}
{{- define "usher.container" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
image: {{ include "usher.image" $root | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
resources:
  {{- toYaml $values.resources | nindent 2 }}
volumeMounts:
- name: tmp
  mountPath: /tmp
- name: metrics
  mountPath: /run/usher/metrics
{{- end -}}

{{/* Environment variables that the values add, a component's own before everybody's; takes (list $ COMPONENT). */}}
{{- define "usher.extraEnv" -}}
{{- $root := index . 0 -}}
{{- $own := (index $root.Values (index . 1)).extraEnv -}}
{{- $names := list -}}
{{- range $own }}{{ $names = append $names .name }}{{ end -}}
{{- $all := list -}}
{{- range $root.Values.extraEnv }}{{ if not (has .name $names) }}{{ $all = append $all . }}{{ end }}{{ end -}}
{{- $all = concat $all $own -}}
{{- $taken := concat (include "usher.settings" $root | fromYaml | keys) (list "USHER_DATABASE_URL" "USHER_MIGRATE_DATABASE_URL" "USHER_REDIS_URL" "USHER_WORKER_METRICS_PORT" "USHER_WORKER_PROCESSES" "USHER_OPERATOR_METRICS_PORT" "USHER_OPERATOR_LEASE") -}}
{{- range $all -}}
{{- if has .name $taken }}{{ fail (printf "extraEnv: %s is set by the chart out of a value of its own" .name) }}{{ end -}}
{{- end -}}
{{- with $all }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* An even spread of a component's pods, or what the values say; takes (list $ COMPONENT). */}}
{{- define "usher.topologySpread" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
topologySpreadConstraints:
{{- if $values.topologySpreadConstraints }}
{{- toYaml $values.topologySpreadConstraints | nindent 0 }}
{{- else }}
{{- $component := . }}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- topologyKey: {{ . }}
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "usher.selectorLabels" $component | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}
{{- end -}}

{{/* Egress rules to a backend; takes a dict of `to` and `ports`. */}}
{{- define "usher.egressTo" -}}
- ports:
  {{- range .ports }}
  - port: {{ . }}
    protocol: TCP
  {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* A component's NetworkPolicy but for its ingress rules; takes (list $ COMPONENT ANNOTATIONS BACKENDS). */}}
{{- define "usher.networkPolicy" -}}
{{- $root := index . 0 -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "usher.fullname" $root }}-{{ index . 1 }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "usher.labels" . | nindent 4 }}
  {{- with index . 2 }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  podSelector:
    matchLabels:
      {{- include "usher.selectorLabels" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  egress:
  - ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
  {{- range index . 3 }}
  {{- include "usher.egressTo" . | nindent 2 }}
  {{- end }}
  {{- with $root.Values.networkPolicy.extraEgress }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Annotations of what is there before the release's own objects; takes the weight, lowest first. */}}
{{- define "usher.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
