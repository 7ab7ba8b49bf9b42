//! The points for matches, which rank the products.

use super::SearchField;
use crate::domain::catalog::search::{MatchKind, Place};

/// The points of the product whose SKU is the whole query.
pub(super) const SKU_POINTS: u32 = 10_000_000;

/// The points for a match, 0 if it is not in the field. A word without typos is worth more than any
/// place of one with a typo.
pub(super) fn match_points(field: SearchField, kind: MatchKind, place: Place) -> u16 {
    let place = match (field, place) {
        (SearchField::Text, place) => place,
        (SearchField::Name, Place::Name | Place::NameStart) => Place::Name,
        (SearchField::Name, _) => return 0,
    };
    let place_points: u16 = match place {
        Place::Description => 100,
        Place::Attributes => 250,
        Place::Labels => 350,
        Place::Name => 500,
        Place::NameStart => 550,
    };
    match kind {
        MatchKind::Sku => 20_999,
        MatchKind::Exact => 20_000 + place_points,
        MatchKind::Stem => 20_000 + place_points / 25 * 24,
        MatchKind::Prefix => 20_000 + place_points / 5 * 4,
        MatchKind::OneTypo => 10_000 + place_points,
        MatchKind::TwoTypos => 1 + place_points,
    }
}
