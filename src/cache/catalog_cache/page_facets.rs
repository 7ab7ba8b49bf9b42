//! The facets of a page, which are rendered once.

use super::{
    CatalogCache, Facets,
    recent_searches::{FirstPage, SearchKey},
};

/// The facets of a page.
#[derive(Debug)]
pub enum PageFacets {
    /// As they were counted.
    Counted {
        /// The counts.
        facets: Facets,
        /// The page, if it is to be remembered.
        page: Option<UnsavedPage>,
    },
    /// As they were rendered for an earlier page.
    Rendered(Vec<u8>),
}

/// A page that is remembered once its facets are rendered.
#[derive(Debug)]
pub struct UnsavedPage(pub(super) SearchKey, pub(super) FirstPage);

impl CatalogCache {
    /// The facets as `render` renders them, or rendered them for an earlier page of the same
    /// search. The page is remembered from now on.
    pub fn render_facets(
        &self,
        facets: PageFacets,
        render: impl FnOnce(&Facets) -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let (facets, page) = match facets {
            PageFacets::Counted { facets, page } => (facets, page),
            PageFacets::Rendered(rendered) => return Some(rendered),
        };
        let rendered = render(&facets)?;
        if let Some(UnsavedPage(key, page)) = page {
            let facets = self.codec.compress(rendered.clone()).into_boxed_slice();
            self.recent_searches.insert_page(key, FirstPage { facets, ..page });
        }
        Some(rendered)
    }
}
