//! Programs built from Go modules, at the versions that `e2e/tools/*/go.mod` pin and with the
//! checksums of the `go.sum` beside them.
//!
//! The module files are compiled into this program, so that a cache entry can be named after what
//! it was built from: the version, for people, and a digest of the module files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    command::Program,
    digest::sha256,
    error::{Error, OnPath},
    paths::Cache,
};

/// The commands of Kubernetes.
pub(crate) const KUBERNETES: GoTools = GoTools {
    name: "kubernetes",
    version_of: "k8s.io/kubernetes",
    files: &[
        ("go.mod", include_str!("../../tools/kubernetes/go.mod")),
        ("go.sum", include_str!("../../tools/kubernetes/go.sum")),
    ],
    packages: &[
        "k8s.io/kubernetes/cmd/kube-apiserver",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-proxy",
        "k8s.io/kubernetes/cmd/kube-scheduler",
        "k8s.io/kubernetes/cmd/kubectl",
        "k8s.io/kubernetes/cmd/kubelet",
    ],
    version_variable: Some("k8s.io/component-base/version.gitVersion"),
    run_once: None,
};

/// The name server.
pub(crate) const COREDNS: GoTools = GoTools {
    name: "coredns",
    version_of: "github.com/coredns/coredns",
    files: &[
        ("go.mod", include_str!("../../tools/coredns/go.mod")),
        ("go.sum", include_str!("../../tools/coredns/go.sum")),
        ("main.go", include_str!("../../tools/coredns/main.go")),
    ],
    packages: &["postrider.dev/e2e/tools/coredns"],
    version_variable: None,
    run_once: None,
};

/// The installer of charts.
pub(crate) const HELM: GoTools = GoTools {
    name: "helm",
    version_of: "helm.sh/helm/v3",
    files: &[
        ("go.mod", include_str!("../../tools/helm/go.mod")),
        ("go.sum", include_str!("../../tools/helm/go.sum")),
    ],
    packages: &["helm.sh/helm/v3/cmd/helm"],
    version_variable: None,
    run_once: None,
};

/// The judge of metrics.
pub(crate) const PROMLINT: GoTools = GoTools {
    name: "promlint",
    version_of: "github.com/prometheus/client_golang",
    files: &[
        ("go.mod", include_str!("../../tools/promlint/go.mod")),
        ("go.sum", include_str!("../../tools/promlint/go.sum")),
        ("main.go", include_str!("../../tools/promlint/main.go")),
    ],
    packages: &["postrider.dev/e2e/tools/promlint"],
    version_variable: None,
    run_once: None,
};

/// The definition of the kind PodMonitor: made from the types of the Prometheus operator, by the
/// generator that its authors make it with.
pub(crate) const PODMONITOR: GoTools = GoTools {
    name: "podmonitor",
    version_of: "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring",
    files: &[
        ("go.mod", include_str!("../../tools/podmonitor/go.mod")),
        ("go.sum", include_str!("../../tools/podmonitor/go.sum")),
        ("tools.go", include_str!("../../tools/podmonitor/tools.go")),
    ],
    packages: &["sigs.k8s.io/controller-tools/cmd/controller-gen"],
    version_variable: None,
    run_once: Some((
        "controller-gen",
        &[
            "crd:crdVersions=v1",
            "paths=github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1",
        ],
    )),
};

/// One tools module and the commands built from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GoTools {
    name: &'static str,
    version_of: &'static str,
    files: &'static [(&'static str, &'static str)],
    packages: &'static [&'static str],
    version_variable: Option<&'static str>,
    /// A built command that is run in the module, and leaves what it makes beside itself.
    run_once: Option<(&'static str, &'static [&'static str])>,
}

impl GoTools {
    /// Name and version, for people.
    pub(crate) fn title(&self) -> Result<String, Error> {
        Ok(format!("{} {}", self.name, self.version()?))
    }

    /// The directory of the built commands; builds them if it is not in `cache`.
    pub(crate) async fn ready(&self, cache: &Cache) -> Result<PathBuf, Error> {
        let entry = self.entry()?;
        let build = async |dir: PathBuf| self.build(&dir).await;
        cache.entry(&entry, build).await
    }

    async fn build(&self, dir: &Path) -> Result<(), Error> {
        let module = tempfile::tempdir().on("create", std::env::temp_dir())?;
        for (name, text) in self.files {
            let path = module.path().join(name);
            fs::write(&path, text).on("write", path)?;
        }
        let mut flags = "-s -w".to_owned();
        if let Some(variable) = self.version_variable {
            flags = format!("{flags} -X {variable}=v{}", self.version()?);
        }
        Program::new("nice")
            .args(["go", "build", "-trimpath", "-gcflags=all=-dwarf=false"])
            .args(["-ldflags", &flags, "-o"])
            .args([format!("{}/", dir.display())])
            .args(self.packages)
            // A compiler that ends within seconds need not tidy up so often.
            .env("GOGC", "400")
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-mod=readonly -buildvcs=false")
            .env("GOWORK", "off")
            .in_dir(module.path())
            .run()
            .await?;
        if let Some((command, arguments)) = self.run_once {
            Program::new(dir.join(command))
                .args(arguments)
                .args([format!("output:dir={}", dir.display())])
                .env("CGO_ENABLED", "0")
                .env("GOFLAGS", "-mod=readonly -buildvcs=false")
                .env("GOWORK", "off")
                .in_dir(module.path())
                .run()
                .await?;
        }
        Ok(())
    }

    /// The name of the cache entry: `NAME-VERSION-DIGEST`.
    fn entry(&self) -> Result<String, Error> {
        let text: String = self.files.iter().map(|(_, text)| *text).collect();
        let digest = sha256(text.as_bytes());
        let short = digest.get(..8).unwrap_or(&digest);
        Ok(format!("{}-{}-{short}", self.name, self.version()?))
    }

    /// The version that go.mod requires, without the leading v.
    fn version(&self) -> Result<&'static str, Error> {
        let text = self
            .files
            .iter()
            .find(|(name, _)| *name == "go.mod")
            .map_or("", |file| file.1);
        text.lines()
            .filter_map(|line| line.trim().trim_start_matches("require ").split_once(" v"))
            .find(|(module, _)| *module == self.version_of)
            .and_then(|(_, version)| version.split_whitespace().next())
            .ok_or_else(|| Error::Usage {
                field: "go.mod",
                value: self.name.to_owned(),
                remedy: format!("require {} with a version", self.version_of),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_module_names_its_version() {
        for tools in [KUBERNETES, COREDNS, HELM, PROMLINT, PODMONITOR] {
            let entry = tools.entry().expect("a version");
            let parts: Vec<_> = entry.split('-').collect();
            assert_eq!(parts.len(), 3, "{entry}");
            assert!(parts[1].split('.').count() == 3, "{entry}");
        }
    }
}
