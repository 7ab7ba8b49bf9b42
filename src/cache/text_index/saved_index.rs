//! Saves the index in a file, so that a start need not build it again.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tantivy::{
    Index, TantivyError,
    directory::{Directory as _, ManagedDirectory, RamDirectory, TerminatingWrite as _},
};

use super::{
    indexed_texts::IndexedTexts,
    schema,
    segment::{IndexView, open_view},
};
use crate::{domain::catalog::search::CatalogLanguage, private_file::create_private_file};

/// A program of another version may find other terms in a text.
const VERSION: &str = env!("SOUK_SEARCH_VERSION");
/// The library's list of segments.
const META: &str = "meta.json";
/// No header is longer, in bytes.
const MAX_HEADER: u64 = 1 << 20;

/// The file with the index of a catalog. It has a header, the files of the library, and a digest
/// of both.
pub(crate) struct SavedIndex {
    path: PathBuf,
    language: CatalogLanguage,
}

/// An index that was read from a file. Its view and texts are read at once, so that an index that
/// cannot be used is found at the start.
pub(super) struct Restored {
    pub(super) index: Index,
    pub(super) view: IndexView,
    pub(super) indexed: IndexedTexts,
}

impl Restored {
    pub(super) fn empty() -> Self {
        let index = schema::create_index();
        Self { index, view: IndexView::default(), indexed: IndexedTexts::default() }
    }

    fn open(index: Index) -> tantivy::Result<Self> {
        let reader = schema::open_reader(&index)?;
        let view = open_view(&reader, schema::fields(), &IndexView::default())?;
        let indexed = IndexedTexts::read(&reader)?;
        Ok(Self { index, view, indexed })
    }
}

/// The first line of the file, as JSON.
#[derive(Serialize, Deserialize)]
struct Header {
    version: String,
    language: String,
    /// The names of the files that follow, and their sizes in bytes.
    files: Vec<(PathBuf, u64)>,
}

impl SavedIndex {
    /// The file at `path`, for a catalog in `language`. It need not exist.
    pub(crate) const fn new(path: PathBuf, language: CatalogLanguage) -> Self {
        Self { path, language }
    }

    /// Reads the index. `None` if there is none that this program can use.
    pub(super) fn restore(&self) -> Option<Restored> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            opened => opened.map_err(TantivyError::from),
        };
        let restored = file.and_then(|file| self.read(file)).and_then(Restored::open);
        let path = self.path.display();
        restored
            .inspect_err(|error| {
                tracing::info!(
                    %error, %path,
                    "failed to read the saved search index; building a new one"
                );
            })
            .ok()
    }

    fn read(&self, file: File) -> tantivy::Result<Index> {
        let mut file = Hashed::new(BufReader::new(file));
        let mut header = Vec::new();
        file.inner.by_ref().take(MAX_HEADER).read_until(b'\n', &mut header)?;
        file.hasher.update(&header);
        let header: Header = serde_json::from_slice(&header).map_err(io::Error::from)?;
        if header.version != VERSION || header.language != self.language.to_string() {
            return Err(invalid("the version or language differs").into());
        }
        let memory = RamDirectory::create();
        let directory = ManagedDirectory::wrap(Box::new(memory.clone()))?;
        for (name, size) in &header.files {
            read_file(&mut file.by_ref().take(*size), &directory, name)?;
        }
        let Hashed { mut inner, hasher } = file;
        let mut digest = Vec::new();
        inner.read_to_end(&mut digest)?;
        if digest != hasher.finalize().as_slice() {
            return Err(invalid("the checksum does not match").into());
        }
        schema::open_index(memory)
    }

    /// Writes what is committed to the index.
    pub(super) fn save(&self, index: &Index) -> tantivy::Result<()> {
        let new = self.path.with_extension("new");
        let saved = self.write(&new, index).and_then(|()| Ok(fs::rename(&new, &self.path)?));
        if saved.is_err() {
            // The error that led here says more.
            let _ = fs::remove_file(&new);
        }
        saved
    }

    fn write(&self, path: &Path, index: &Index) -> tantivy::Result<()> {
        // As long as it lives, the library keeps the files of its segments.
        let meta = index.load_metas()?;
        let mut contents = Vec::new();
        for name in meta.list_segment_files() {
            if index.directory().exists(&name)? {
                let content = index.directory().open_read(&name)?.read_bytes()?;
                contents.push((name, content));
            }
        }
        let meta = serde_json::to_vec(&meta).map_err(io::Error::from)?;
        let sizes = contents.iter().map(|(name, content)| (name.clone(), content.len() as u64));
        let header = Header {
            version: VERSION.to_owned(),
            language: self.language.to_string(),
            files: sizes.chain([(META.into(), meta.len() as u64)]).collect(),
        };
        let mut file = Hashed::new(BufWriter::new(create_private_file(path)?));
        serde_json::to_writer(&mut file, &header).map_err(io::Error::from)?;
        file.write_all(b"\n")?;
        for (_, content) in &contents {
            file.write_all(content)?;
        }
        file.write_all(&meta)?;
        let Hashed { mut inner, hasher } = file;
        inner.write_all(&hasher.finalize())?;
        // Not synced: the digest tells if the system ends before the file is on the disk.
        inner.flush()?;
        Ok(())
    }
}

fn read_file(
    content: &mut impl Read,
    directory: &ManagedDirectory,
    name: &Path,
) -> tantivy::Result<()> {
    if name == Path::new(META) {
        let mut meta = Vec::new();
        content.read_to_end(&mut meta)?;
        directory.atomic_write(name, &meta)?;
        return Ok(());
    }
    let mut writer = directory.open_write(name)?;
    io::copy(content, &mut writer)?;
    writer.terminate()?;
    Ok(())
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Computes the digest of what is read or written.
struct Hashed<T> {
    inner: T,
    hasher: Sha256,
}

impl<T> Hashed<T> {
    fn new(inner: T) -> Self {
        Self { inner, hasher: Sha256::new() }
    }
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..len).unwrap_or_default());
        Ok(len)
    }
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..len).unwrap_or_default());
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;
    use crate::{
        cache::text_index::{TextIndex, TextKey},
        domain::{
            catalog::{
                product::{Product, ProductDetails},
                search::TextRules,
            },
            clock::Timestamp,
            ids::ProductId,
        },
    };

    struct Fixture {
        dir: tempfile::TempDir,
        product: Product,
    }

    impl Fixture {
        /// A file with an index of one product.
        fn new() -> Self {
            let details = ProductDetails::sample("Mint tea");
            let product = Product::new(ProductId::new(), details, Timestamp::default());
            let fixture = Self { dir: tempfile::tempdir().unwrap(), product };
            let index = fixture.open("en");
            fixture.put(&index, 7);
            index.close();
            fixture
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("search.index")
        }

        fn open(&self, language: &str) -> TextIndex {
            TextIndex::open(Some(SavedIndex::new(self.path(), language.parse().unwrap())))
        }

        fn put(&self, index: &TextIndex, slot: u32) {
            let terms = TextRules::new(&CatalogLanguage::default()).product_terms(&self.product);
            index.put(slot, TextKey::of(&self.product), terms);
        }

        /// The slot of the product in the index that is saved, if that is usable.
        fn saved_slot(&self, language: &str) -> Option<u32> {
            let indexed = self.open(language).begin_load();
            let slot = indexed.slot(TextKey::of(&self.product));
            assert_eq!(indexed.slots().len(), u64::from(slot.is_some()));
            slot
        }
    }

    #[test]
    fn index_is_read_for_the_same_text_and_language() {
        let fixture = Fixture::new();
        assert_eq!(fixture.saved_slot("en"), Some(7));
        assert_eq!(fixture.saved_slot("de"), None);
        let texts = fixture.open("en").begin_load();
        let changed = [
            Product { id: ProductId::new(), ..fixture.product.clone() },
            Product { details: ProductDetails::sample("Mint teas"), ..fixture.product.clone() },
        ];
        for product in changed {
            assert_eq!(texts.slot(TextKey::of(&product)), None);
        }
        let dearer = Product { version: 2, ..fixture.product };
        assert_eq!(texts.slot(TextKey::of(&dearer)), Some(7));
    }

    #[test]
    fn damaged_file_is_not_read() {
        let fixture = Fixture::new();
        let whole = fs::read(fixture.path()).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 4;
            fs::write(fixture.path(), damaged).unwrap();
            assert_eq!(fixture.saved_slot("en"), None, "byte {at} of {}", whole.len());
        }
        for len in (0..whole.len()).step_by(7) {
            fs::write(fixture.path(), &whole[..len]).unwrap();
            assert_eq!(fixture.saved_slot("en"), None, "{len} of {} bytes", whole.len());
        }
        fs::write(fixture.path(), [&whole[..], b"."].concat()).unwrap();
        assert_eq!(fixture.saved_slot("en"), None);
        fs::write(fixture.path(), whole).unwrap();
        assert_eq!(fixture.saved_slot("en"), Some(7));
    }

    #[test]
    fn file_that_cannot_be_written_is_no_failure() {
        let fixture = Fixture::new();
        fs::remove_file(fixture.path()).unwrap();
        fs::create_dir(fixture.path()).unwrap();
        let index = fixture.open("en");
        fixture.put(&index, 1);
        index.close();
        let left: Vec<_> = fs::read_dir(fixture.dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    /// A shop that is killed has saved most of its index.
    #[test]
    fn index_is_saved_after_many_changes() {
        let fixture = Fixture::new();
        fs::remove_file(fixture.path()).unwrap();
        let index = fixture.open("en");
        (0..10_000).for_each(|slot| fixture.put(&index, slot));
        while !fixture.path().exists() {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(fixture.open("en").begin_load().slots().len(), 10_000);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_the_file() {
        use std::os::unix::fs::PermissionsExt as _;

        let mode = fs::metadata(Fixture::new().path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
