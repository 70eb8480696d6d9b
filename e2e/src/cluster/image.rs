//! Container images made without a builder: one layer of files, packed as an OCI archive that
//! containerd and others import.
//!
//! Promises: the same files give the same bytes, so the same digest. A program that would not run
//! in an image from scratch, since it is linked dynamically, is refused here and not found out
//! in a pod.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{
    command::Program,
    containerfile::{self, Containerfile},
    digest::sha256,
    error::{Error, OnPath},
};

/// The user that images run as unless their Containerfile says otherwise: not root, and a number,
/// which a pod with `runAsNonRoot` demands.
const USER: &str = "65532:65532";

/// An image about to be packed.
#[derive(Debug, Clone)]
pub struct Archive {
    name: String,
    /// Source files and their places in the image.
    files: Vec<(PathBuf, PathBuf)>,
    /// The `config` object of the image: user, entry point and so on.
    config: Value,
}

impl Archive {
    /// An image named `name` (with its tag) around one program, which is its entry point.
    ///
    /// # Errors
    /// When `program` cannot be read, or is linked dynamically.
    pub fn of_program(name: &str, program: &Path) -> Result<Self, Error> {
        refuse_dynamic(program)?;
        let file = program.file_name().unwrap_or(program.as_os_str());
        let place = Path::new("/").join(file);
        let config = json!({"User": USER, "Entrypoint": [place], "WorkingDir": "/"});
        Ok(Self {
            name: name.to_owned(),
            files: vec![(program.to_owned(), place)],
            config,
        })
    }

    /// An image named `name` (with its tag) as a Containerfile describes it, its `COPY` sources
    /// taken from `context`. See [`Containerfile`] for what may stand in it.
    ///
    /// # Errors
    /// When a file cannot be read, the Containerfile asks for more than files on scratch, or a
    /// program is linked dynamically.
    pub fn of_containerfile(name: &str, file: &Path, context: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(file).on("read", file)?;
        let parsed: Containerfile = containerfile::parse(&text)?;
        let mut files = Vec::new();
        for (source, place) in parsed.copies {
            collect(&context.join(source), &place, &mut files)?;
        }
        for (source, _) in &files {
            refuse_dynamic(source)?;
        }
        Ok(Self {
            name: name.to_owned(),
            files,
            config: parsed.config,
        })
    }

    /// The image that the command line describes as `NAME=WHAT`: a program, a directory with a
    /// Containerfile, or `CONTAINERFILE@CONTEXT`.
    ///
    /// # Errors
    /// Those of the other constructors, and when the description has another form.
    pub fn of_argument(argument: &str) -> Result<Self, Error> {
        let (name, what) = argument.split_once('=').ok_or_else(|| Error::Usage {
            field: "image",
            value: argument.to_owned(),
            remedy: "write NAME:TAG=PROGRAM, NAME:TAG=DIRECTORY or \
                     NAME:TAG=CONTAINERFILE@CONTEXT"
                .to_owned(),
        })?;
        if let Some((file, context)) = what.split_once('@') {
            return Self::of_containerfile(name, Path::new(file), Path::new(context));
        }
        let path = Path::new(what);
        if path.is_dir() {
            return Self::of_containerfile(name, &path.join("Containerfile"), path);
        }
        Self::of_program(name, path)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Packs it into the file `archive`.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub async fn write(&self, archive: &Path) -> Result<(), Error> {
        let work = tempfile::tempdir().on("create", std::env::temp_dir())?;
        let layer = self.layer(work.path()).await?;
        let layer = fs::read(&layer).on("read", &layer)?;
        let layout = Layout::create(work.path().join("layout"))?;
        let layer = layout.blob(&layer, "layer.v1.tar")?;
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        });
        let config = layout.blob(config.to_string().as_bytes(), "config.v1+json")?;
        let manifest = json!({
            "schemaVersion": 2,
            "config": config.descriptor(&json!({})),
            "layers": [layer.descriptor(&json!({}))],
        });
        let manifest = layout.blob(manifest.to_string().as_bytes(), "manifest.v1+json")?;
        let named = json!({
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": self.name,
        });
        let index = json!({"schemaVersion": 2, "manifests": [manifest.descriptor(&named)]});
        layout.write("index.json", index.to_string().as_bytes())?;
        let version = json!({"imageLayoutVersion": "1.0.0"});
        layout.write("oci-layout", version.to_string().as_bytes())?;
        tar(&layout.0, archive).await
    }

    /// Lays the files out below `work` and packs them.
    async fn layer(&self, work: &Path) -> Result<PathBuf, Error> {
        let root = work.join("root");
        fs::create_dir_all(&root).on("create", &root)?;
        for (source, place) in &self.files {
            let place = root.join(place.strip_prefix("/").unwrap_or(place));
            if let Some(parent) = place.parent() {
                fs::create_dir_all(parent).on("create", parent)?;
            }
            fs::copy(source, &place).on("copy", source)?;
            let mode = fs::metadata(&place)
                .on("read", &place)?
                .permissions()
                .mode();
            let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
            fs::set_permissions(&place, fs::Permissions::from_mode(mode)).on("chmod", &place)?;
        }
        let layer = work.join("layer.tar");
        tar(&root, &layer).await?;
        Ok(layer)
    }
}

/// A directory in the OCI image layout.
struct Layout(PathBuf);

/// A file of the layout that others refer to.
struct Blob {
    digest: String,
    size: usize,
    media: String,
}

impl Layout {
    fn create(dir: PathBuf) -> Result<Self, Error> {
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).on("create", blobs)?;
        Ok(Self(dir))
    }

    fn blob(&self, bytes: &[u8], media: &str) -> Result<Blob, Error> {
        let digest = sha256(bytes);
        self.write(&format!("blobs/sha256/{digest}"), bytes)?;
        Ok(Blob {
            digest: format!("sha256:{digest}"),
            size: bytes.len(),
            media: format!("application/vnd.oci.image.{media}"),
        })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.0.join(name);
        fs::write(&path, bytes).on("write", path)
    }
}

impl Blob {
    fn descriptor(&self, annotations: &Value) -> Value {
        json!({
            "mediaType": self.media,
            "digest": self.digest,
            "size": self.size,
            "annotations": annotations,
        })
    }
}

/// The machine's architecture in the words of Go, which image configurations use.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Files below `source`, or itself, with their places below `place`.
fn collect(source: &Path, place: &Path, files: &mut Vec<(PathBuf, PathBuf)>) -> Result<(), Error> {
    if !source.is_dir() {
        files.push((source.to_owned(), place.to_owned()));
        return Ok(());
    }
    for entry in fs::read_dir(source).on("list", source)? {
        let entry = entry.on("list", source)?;
        collect(&entry.path(), &place.join(entry.file_name()), files)?;
    }
    Ok(())
}

async fn tar(dir: &Path, archive: &Path) -> Result<(), Error> {
    Program::new("tar")
        .args([
            "--create",
            "--sort=name",
            "--format=ustar",
            "--mtime=@0",
            "--numeric-owner",
        ])
        .args(["--owner=0", "--group=0", "--mode=u=rwX,go=rX"])
        .args([format!("--file={}", archive.display())])
        .args([format!("--directory={}", dir.display()), ".".to_owned()])
        .run()
        .await
}

fn refuse_dynamic(program: &Path) -> Result<(), Error> {
    let bytes = fs::read(program).on("read", program)?;
    if !asks_for_interpreter(&bytes) {
        return Ok(());
    }
    Err(Error::Usage {
        field: "image program",
        value: program.display().to_string(),
        remedy: "it is linked dynamically and cannot run on scratch; build it with \
                 RUSTFLAGS=-Ctarget-feature=+crt-static and an explicit --target"
            .to_owned(),
    })
}

/// Whether these are the bytes of a 64-bit ELF program with a `PT_INTERP` header.
fn asks_for_interpreter(bytes: &[u8]) -> bool {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, size: usize| -> Option<u64> {
        let field = bytes.get(at..at.checked_add(size)?)?;
        Some(
            field
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    };
    let interpreted = || -> Option<bool> {
        (bytes.get(..5)? == b"\x7fELF\x02").then_some(())?;
        let table = usize::try_from(number(32, 8)?).ok()?;
        let size = usize::try_from(number(54, 2)?).ok()?;
        let count = usize::try_from(number(56, 2)?).ok()?;
        Some((0..count).any(|nth| number(table + nth * size, 4) == Some(PT_INTERP)))
    };
    interpreted().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_refused_and_says_how_to_build() {
        let own = std::env::current_exe().expect("own path");
        let error = Archive::of_program("localhost/x:1", &own).expect_err("dynamic");
        assert!(error.to_string().contains("+crt-static"), "{error}");
    }

    #[test]
    fn a_script_is_not_taken_for_a_program() {
        assert!(!asks_for_interpreter(b"#!/bin/sh\n"));
        assert!(!asks_for_interpreter(b"\x7fELF\x02"));
    }

    #[test]
    fn an_argument_without_name_is_refused() {
        let error = Archive::of_argument("relay").expect_err("no name");
        assert!(error.to_string().contains("NAME:TAG=PROGRAM"), "{error}");
    }

    #[tokio::test]
    async fn the_same_files_give_the_same_archive() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("program");
        fs::write(&file, "#!/none\n").expect("write");
        let image = Archive::of_program("localhost/x:1", &file).expect("image");
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        image.write(&one).await.expect("first");
        image.write(&two).await.expect("second");
        assert_eq!(
            fs::read(one).expect("first"),
            fs::read(two).expect("second")
        );
    }
}
