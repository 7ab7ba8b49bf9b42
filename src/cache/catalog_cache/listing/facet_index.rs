//! Which products have which category, tags and attributes.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use icu_normalizer::ComposingNormalizerBorrowed;
use roaring::RoaringBitmap;

use super::value_lists::ValueLists;
use crate::domain::catalog::{
    product::{AttributeValue, Product},
    search::attribute_text,
};

/// What products are counted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum FacetField {
    Category,
    Tag,
    Attribute(Arc<str>),
}

/// `text` with each letter and its accents as one character, where there is one: labels that look
/// equal are equal, however they were typed.
fn composed(text: &str) -> Cow<'_, str> {
    ComposingNormalizerBorrowed::new_nfc().normalize(text)
}

impl FacetField {
    pub(super) fn attribute(name: &str) -> Self {
        Self::Attribute((*composed(name)).into())
    }

    /// The most values that an answer lists.
    const fn max_values(&self) -> usize {
        match self {
            Self::Category => 200,
            Self::Tag => 100,
            Self::Attribute(_) => 50,
        }
    }
}

/// The most attributes that an answer lists.
const MAX_ATTRIBUTES: usize = 30;
/// How many of the most common values of a field are sorted. Among values that are equally common,
/// it is not defined which ones belong to them.
const MAX_SORTED_VALUES: usize = 2000;
/// The values that are intersected with the products between two pauses.
const INTERSECTIONS_BETWEEN_PAUSES: usize = 16;
/// The values that are counted one by one between two pauses.
const VALUES_BETWEEN_PAUSES: usize = 4096;

/// The values by which products are counted, and the products of each.
#[derive(Debug, Default)]
pub(super) struct FacetIndex {
    values: Vec<FacetValue>,
    /// The number of products of each value, apart from the values so that reading all is fast.
    lens: Vec<u32>,
    /// The numbers of unused values.
    free: Vec<u32>,
    ids: HashMap<FacetField, FieldValues>,
}

/// The numbers of the values of a field, by their texts, for each kind of a value.
#[derive(Debug, Default)]
struct FieldValues([HashMap<Arc<str>, u32>; ValueKind::COUNT]);

impl FieldValues {
    /// The number of a value.
    fn get(&self, kind: ValueKind, text: &str) -> Option<u32> {
        self.0.get(kind as usize)?.get(text).copied()
    }

    fn insert(&mut self, kind: ValueKind, text: Arc<str>, id: u32) {
        if let Some(values) = self.0.get_mut(kind as usize) {
            values.insert(text, id);
        }
    }

    /// Removes a value. Returns whether it was the last one.
    fn remove(&mut self, kind: ValueKind, text: &str) -> bool {
        if let Some(values) = self.0.get_mut(kind as usize) {
            values.remove(text);
        }
        self.0.iter().all(HashMap::is_empty)
    }

    /// The numbers of the values with this text, of any kind.
    fn with_text(&self, text: &str) -> impl Iterator<Item = u32> {
        self.0.iter().filter_map(move |values| values.get(text).copied())
    }

    fn ids(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(HashMap::values).copied()
    }
}

#[derive(Debug)]
struct FacetValue {
    field: FacetField,
    text: Arc<str>,
    kind: ValueKind,
    slots: RoaringBitmap,
}

/// How a value is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ValueKind {
    Text,
    Number,
    Bool,
}

impl ValueKind {
    const COUNT: usize = Self::Bool as usize + 1;
}

/// How many products have values of a field, by their numbers.
type Counts = Vec<(u64, u32)>;

/// How many products have each value of a field.
pub(super) type FieldCounts = BTreeMap<FacetField, Vec<(AttributeValue, u64)>>;

impl FacetIndex {
    /// Adds the values of `product`, and returns their numbers.
    pub(super) fn add(&mut self, slot: u32, product: &Product) -> Vec<u32> {
        let details = &product.details;
        let mut ids: Vec<u32> = Vec::new();
        let category = details.category.iter().map(|text| (FacetField::Category, text));
        let tags = details.tags.iter().map(|text| (FacetField::Tag, text));
        for (field, text) in category.chain(tags) {
            ids.push(self.add_value(slot, field, text, ValueKind::Text));
        }
        for (name, value) in &details.attributes {
            let kind = match value {
                AttributeValue::Text(_) => ValueKind::Text,
                AttributeValue::Number(_) => ValueKind::Number,
                AttributeValue::Bool(_) => ValueKind::Bool,
            };
            let field = FacetField::Attribute(self.attribute_name(name));
            ids.push(self.add_value(slot, field, &attribute_text(value), kind));
        }
        // A tag may be given twice.
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The name as it is already known, so that products share it.
    fn attribute_name(&self, name: &str) -> Arc<str> {
        let field = FacetField::attribute(name);
        match (self.ids.get_key_value(&field), field) {
            (Some((FacetField::Attribute(known), _)), _) => Arc::clone(known),
            (_, FacetField::Attribute(name)) => name,
            _ => name.into(),
        }
    }

    fn add_value(&mut self, slot: u32, field: FacetField, text: &str, kind: ValueKind) -> u32 {
        let text = &*composed(text);
        let known = self.ids.get(&field).and_then(|values| values.get(kind, text));
        if let Some(id) = known {
            let value = self.values.get_mut(id as usize).zip(self.lens.get_mut(id as usize));
            if let Some((value, len)) = value {
                *len += u32::from(value.slots.insert(slot));
            }
            return id;
        }
        let text: Arc<str> = text.into();
        let slots = RoaringBitmap::from_iter([slot]);
        let value = FacetValue { field: field.clone(), text: Arc::clone(&text), kind, slots };
        let next = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        let id = self.free.pop().unwrap_or(next);
        match self.values.get_mut(id as usize).zip(self.lens.get_mut(id as usize)) {
            Some((unused, len)) => (*unused, *len) = (value, 1),
            None => {
                self.values.push(value);
                self.lens.push(1);
            }
        }
        self.ids.entry(field).or_default().insert(kind, text, id);
        id
    }

    /// Removes a product from the values with the numbers `ids`.
    pub(super) fn remove(&mut self, slot: u32, ids: &[u32]) {
        for &id in ids {
            let value = self.values.get_mut(id as usize).zip(self.lens.get_mut(id as usize));
            let Some((value, len)) = value else { continue };
            *len -= u32::from(value.slots.remove(slot));
            if !value.slots.is_empty() {
                continue;
            }
            let values = self.ids.get_mut(&value.field);
            if values.is_some_and(|values| values.remove(value.kind, &value.text)) {
                self.ids.remove(&value.field);
            }
            self.free.push(id);
        }
    }

    /// The products that have one of the values.
    pub(super) fn products_with<'a>(
        &self,
        field: &FacetField,
        texts: impl IntoIterator<Item = &'a String>,
    ) -> RoaringBitmap {
        let Some(values) = self.ids.get(field) else { return RoaringBitmap::new() };
        let texts = texts.into_iter().map(|text| composed(text));
        let ids = texts.flat_map(|text| values.with_text(&text).collect::<Vec<_>>());
        let slots = ids.filter_map(|id| self.values.get(id as usize)).map(|value| &value.slots);
        roaring::MultiOps::union(slots)
    }

    /// Counts `products` by every value of the fields that `includes` names. `value_lists` has the
    /// numbers of each product's values, and `total` is the number of all products. `pause` is
    /// called again and again.
    pub(super) fn count(
        &self,
        products: &RoaringBitmap,
        total: u64,
        value_lists: &ValueLists,
        includes: impl Fn(&FacetField) -> bool,
        pause: impl Fn(),
    ) -> FieldCounts {
        let included = || self.ids.iter().filter(|(field, _)| includes(field));
        let is_all = products.len() == total;
        let mut fields: BTreeMap<&FacetField, Counts> = BTreeMap::new();
        if !is_all && self.is_faster_one_by_one(included().flat_map(|(_, v)| v.ids()), products) {
            for (count, id) in self.count_one_by_one(products, value_lists, pause) {
                let field = self.values.get(id as usize).map(|value| &value.field);
                if let Some(field) = field.filter(|field| includes(field)) {
                    fields.entry(field).or_default().push((count, id));
                }
            }
        } else {
            let until_pause =
                if is_all { VALUES_BETWEEN_PAUSES } else { INTERSECTIONS_BETWEEN_PAUSES };
            let slots = |id: u32| self.values.get(id as usize).map(|value| &value.slots);
            for (field, values) in included() {
                let mut counts = Counts::new();
                for (number, id) in values.ids().enumerate() {
                    if number.is_multiple_of(until_pause) {
                        pause();
                    }
                    let count = if is_all {
                        self.len(id)
                    } else {
                        slots(id).map_or(0, |slots| slots.intersection_len(products))
                    };
                    counts.extend((count > 0).then_some((count, id)));
                }
                if !counts.is_empty() {
                    fields.insert(field, counts);
                }
            }
        }
        keep_main_attributes(&mut fields);
        let shown = |(field, counts): (&FacetField, Counts)| {
            (field.clone(), shown_values(field, self.most_common(counts)))
        };
        fields.into_iter().map(shown).collect()
    }

    /// The number of products of a value.
    fn len(&self, id: u32) -> u64 {
        self.lens.get(id as usize).map_or(0, |len| u64::from(*len))
    }

    /// The most common values of a field.
    fn most_common(&self, mut counts: Counts) -> Vec<(&FacetValue, u64)> {
        if counts.len() > MAX_SORTED_VALUES {
            let by_count = |(count, id): &(u64, u32)| (Reverse(*count), *id);
            counts.select_nth_unstable_by_key(MAX_SORTED_VALUES, by_count);
            counts.truncate(MAX_SORTED_VALUES);
        }
        let value = |(count, id): (u64, u32)| Some((self.values.get(id as usize)?, count));
        counts.into_iter().filter_map(value).collect()
    }

    /// Whether reading the values of every product takes less time than intersecting the products
    /// with those of every value, in steps of about a nanosecond.
    fn is_faster_one_by_one(
        &self,
        values: impl Iterator<Item = u32>,
        products: &RoaringBitmap,
    ) -> bool {
        /// For a product with several values.
        const STEPS_TO_READ_VALUES: u64 = 10;
        /// For a value that hardly any product has.
        const STEPS_TO_INTERSECT: u64 = 50;
        let words = u64::from(products.max().unwrap_or(0)) / 64;
        let len = products.len();
        let intersect = |id: u32| STEPS_TO_INTERSECT + self.len(id).min(len).min(words);
        let mut steps = 0;
        let most_steps = len * STEPS_TO_READ_VALUES;
        values.map(intersect).any(|more| {
            steps += more;
            steps >= most_steps
        })
    }

    fn count_one_by_one(
        &self,
        products: &RoaringBitmap,
        value_lists: &ValueLists,
        pause: impl Fn(),
    ) -> Counts {
        let mut counts = vec![0_u32; self.values.len()];
        let mut counted = Vec::new();
        let mut until_pause = 0;
        value_lists.read_all(products.iter(), |values| {
            for id in values {
                let Some(count) = counts.get_mut(*id as usize) else { continue };
                if *count == 0 {
                    counted.push(*id);
                }
                *count += 1;
            }
            until_pause += values.len();
            if until_pause > VALUES_BETWEEN_PAUSES {
                pause();
                until_pause = 0;
            }
        });
        let count = |id: u32| {
            let count = counts.get(id as usize).copied().unwrap_or(0);
            (u64::from(count), id)
        };
        counted.into_iter().map(count).collect()
    }
}

/// Keeps the attributes that most products have.
fn keep_main_attributes(fields: &mut BTreeMap<&FacetField, Counts>) {
    let is_attribute = |field: &FacetField| matches!(field, FacetField::Attribute(_));
    let mut attributes: Vec<(u64, FacetField)> = fields
        .iter()
        .filter(|(field, _)| is_attribute(field))
        .map(|(field, counts)| (counts.iter().map(|(count, _)| count).sum(), (*field).clone()))
        .collect();
    attributes.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    for (_, field) in attributes.iter().skip(MAX_ATTRIBUTES) {
        fields.remove(field);
    }
}

/// The most common values, sorted: numbers by size, texts by letter.
fn shown_values(
    field: &FacetField,
    mut values: Vec<(&FacetValue, u64)>,
) -> Vec<(AttributeValue, u64)> {
    let max = field.max_values();
    if values.len() > max {
        values.select_nth_unstable_by(max, |a, b| {
            let by_value = || (&a.0.text, a.0.kind).cmp(&(&b.0.text, b.0.kind));
            b.1.cmp(&a.1).then_with(by_value)
        });
        values.truncate(max);
    }
    let number = |value: &FacetValue| match value.kind {
        ValueKind::Number => value.text.parse::<f64>().unwrap_or(f64::MAX),
        _ => f64::MAX,
    };
    values.sort_unstable_by(|(a, _), (b, _)| {
        let by_text = || a.text.cmp(&b.text).then_with(|| a.kind.cmp(&b.kind));
        number(a).total_cmp(&number(b)).then_with(by_text)
    });
    values.into_iter().map(|(value, count)| (value.show(), count)).collect()
}

impl FacetValue {
    fn show(&self) -> AttributeValue {
        let text = || AttributeValue::Text(self.text.as_ref().to_owned());
        match self.kind {
            ValueKind::Text => text(),
            ValueKind::Bool => AttributeValue::Bool(self.text.as_ref() == "true"),
            ValueKind::Number => self.text.parse().map_or_else(|_| text(), AttributeValue::Number),
        }
    }
}
