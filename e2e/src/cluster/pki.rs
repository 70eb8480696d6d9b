//! The keys and certificates of one cluster: one authority, a certificate for each part, a key
//! for service account tokens. Made anew at every start, never reused.

use std::{fs, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use super::{
    error::{Error, OnPath},
    kubeconfig,
    paths::StateDir,
};

/// Whom a certificate names, in the words Kubernetes reads from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity<'a> {
    /// Its file name, and the common name unless `user` differs.
    pub(crate) name: &'a str,
    /// The user, as RBAC knows it.
    pub(crate) user: &'a str,
    /// The group, if any.
    pub(crate) group: Option<&'a str>,
    /// DNS names and IP addresses under which it serves.
    pub(crate) serves: &'a [String],
}

impl<'a> Identity<'a> {
    /// A client.
    pub(crate) fn client(name: &'a str, user: &'a str, group: Option<&'a str>) -> Self {
        Self {
            name,
            user,
            group,
            serves: &[],
        }
    }
}

/// Files of a certificate and its key.
#[derive(Debug, Clone)]
pub(crate) struct KeyFiles {
    /// The certificate, PEM.
    pub(crate) cert: String,
    /// The private key, PKCS #8 PEM.
    pub(crate) key: String,
}

/// The authority and where its work is put.
pub(crate) struct Pki {
    state: StateDir,
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
}

impl Pki {
    /// Makes the authority and the service account key.
    pub(crate) fn create(state: &StateDir) -> Result<Self, Error> {
        let fault = |source| Error::Certificate {
            name: "authority".into(),
            source,
        };
        let key = KeyPair::generate().map_err(fault)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named("postrider-e2e", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let ca_pem = params.self_signed(&key).map_err(fault)?.pem();
        state.write("pki/ca.crt", &ca_pem)?;
        state.write("pki/ca.key", &key.serialize_pem())?;
        let service_accounts = KeyPair::generate().map_err(fault)?;
        state.write("pki/sa.key", &service_accounts.serialize_pem())?;
        state.write("pki/sa.pub", &service_accounts.public_key_pem())?;
        Ok(Self {
            state: state.clone(),
            issuer: Issuer::new(params, key),
            ca_pem,
        })
    }

    /// The path of a file of the authority: `ca.crt`, `ca.key`, `sa.key`, `sa.pub`.
    pub(crate) fn file(&self, name: &str) -> String {
        self.state.join("pki").join(name).display().to_string()
    }

    /// Makes a certificate for serving and for being a client.
    pub(crate) fn issue(&self, identity: &Identity<'_>) -> Result<KeyFiles, Error> {
        let name = identity.name;
        let (cert, key) = self.sign(identity)?;
        self.state.write(&format!("pki/{name}.crt"), &cert)?;
        self.state.write(&format!("pki/{name}.key"), &key)?;
        Ok(KeyFiles {
            cert: self.file(&format!("{name}.crt")),
            key: self.file(&format!("{name}.key")),
        })
    }

    /// Makes a kubeconfig with which `identity` reaches `server`; returns its path.
    pub(crate) fn kubeconfig(
        &self,
        identity: &Identity<'_>,
        server: &str,
        path: PathBuf,
    ) -> Result<PathBuf, Error> {
        let (cert, key) = self.sign(identity)?;
        let text = kubeconfig::render(server, &self.ca_pem, &cert, &key);
        fs::write(&path, text).on("write", &path)?;
        Ok(path)
    }

    fn sign(&self, identity: &Identity<'_>) -> Result<(String, String), Error> {
        let fault = |source| Error::Certificate {
            name: identity.name.to_owned(),
            source,
        };
        let key = KeyPair::generate().map_err(fault)?;
        let mut params = CertificateParams::new(identity.serves.to_vec()).map_err(fault)?;
        params.distinguished_name = named(identity.user, identity.group);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&key, &self.issuer).map_err(fault)?;
        Ok((cert.pem(), key.serialize_pem()))
    }
}

fn named(user: &str, group: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    name.push(DnType::CommonName, user);
    name
}
