{{- define "postrider.name" -}}
{{- if contains "postrider" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-postrider" (.Release.Name | trunc 30 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "postrider.selector" -}}
app.kubernetes.io/name: postrider-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "postrider.labels" -}}
{{ include "postrider.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: postrider
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "postrider.image" -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}

{{- /* What the operator may do where it works: what its stores watch and its controllers write. */ -}}
{{- define "postrider.rules" -}}
- apiGroups: [postrider.dev]
  resources: [sendingdomains, relaypools, suppressionlists]
  verbs: [get, list, watch]
# Finalizers keep a SendingDomain until its mail has left the queues and the records published for it
# are out of DNS.
- apiGroups: [postrider.dev]
  resources: [sendingdomains]
  verbs: [patch]
- apiGroups: [postrider.dev]
  resources: [sendingdomains/status, relaypools/status, suppressionlists/status]
  verbs: [patch]
# Children name their owner with blockOwnerDeletion, which some clusters guard by this right.
- apiGroups: [postrider.dev]
  resources: [sendingdomains/finalizers, relaypools/finalizers]
  verbs: [update]
# Certificates are replaced in the version they were read in, keys that are done with are deleted.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [""]
  resources: [configmaps, services, serviceaccounts]
  verbs: [get, list, watch, create, patch]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
# Annotated, so that the kubelet refreshes the mounted configuration at once.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]
# Annotated with what a member has been told of standing orders.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, watch, patch]
# Where spec.publish.dnsEndpoint hands records to external-dns.
- apiGroups: [externaldns.k8s.io]
  resources: [dnsendpoints]
  verbs: [get, create, patch, delete]
# Events of a StatefulSet, its pods and its volumes are read while pods are missing or do not run.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [list, create]
{{- end -}}
