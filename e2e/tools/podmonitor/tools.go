//go:build tools

// What the definition of PodMonitor is made from and by.
package podmonitor

import (
	_ "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	_ "sigs.k8s.io/controller-tools/cmd/controller-gen"
)
