//! Which products have which category, tags and attributes.

use std::{
    borrow::Cow,
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
/// The values that are intersected with the products between two pauses.
const INTERSECTIONS_BETWEEN_PAUSES: usize = 16;
/// The values that are counted one by one between two pauses.
const VALUES_BETWEEN_PAUSES: usize = 4096;

/// The values by which products are counted, and the products of each.
#[derive(Debug, Default)]
pub(super) struct FacetIndex {
    values: Vec<FacetValue>,
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
            if let Some(value) = self.values.get_mut(id as usize) {
                value.slots.insert(slot);
            }
            return id;
        }
        let text: Arc<str> = text.into();
        let slots = RoaringBitmap::from_iter([slot]);
        let value = FacetValue { field: field.clone(), text: Arc::clone(&text), kind, slots };
        let next = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        let id = self.free.pop().unwrap_or(next);
        match self.values.get_mut(id as usize) {
            Some(unused) => *unused = value,
            None => self.values.push(value),
        }
        self.ids.entry(field).or_default().insert(kind, text, id);
        id
    }

    /// Removes a product from the values with the numbers `ids`.
    pub(super) fn remove(&mut self, slot: u32, ids: &[u32]) {
        for &id in ids {
            let Some(value) = self.values.get_mut(id as usize) else { continue };
            value.slots.remove(slot);
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
        let value = |id: u32| self.values.get(id as usize);
        let is_all = products.len() == total;
        let all_values = included().flat_map(|(_, values)| values.ids()).filter_map(value);
        let mut fields: BTreeMap<&FacetField, Vec<(&FacetValue, u64)>> = BTreeMap::new();
        if !is_all && is_faster_one_by_one(all_values, products) {
            for (value, count) in self.count_one_by_one(products, value_lists, pause) {
                if includes(&value.field) {
                    fields.entry(&value.field).or_default().push((value, count));
                }
            }
        } else {
            let until_pause =
                if is_all { VALUES_BETWEEN_PAUSES } else { INTERSECTIONS_BETWEEN_PAUSES };
            for (field, values) in included() {
                let mut counts = Vec::new();
                for (number, value) in values.ids().filter_map(value).enumerate() {
                    if number.is_multiple_of(until_pause) {
                        pause();
                    }
                    let slots = &value.slots;
                    let count = if is_all { slots.len() } else { slots.intersection_len(products) };
                    counts.extend((count > 0).then_some((value, count)));
                }
                if !counts.is_empty() {
                    fields.insert(field, counts);
                }
            }
        }
        keep_main_attributes(&mut fields);
        fields
            .into_iter()
            .map(|(field, values)| (field.clone(), shown_values(field, values)))
            .collect()
    }

    fn count_one_by_one(
        &self,
        products: &RoaringBitmap,
        value_lists: &ValueLists,
        pause: impl Fn(),
    ) -> Vec<(&FacetValue, u64)> {
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
            Some((self.values.get(id as usize)?, u64::from(count)))
        };
        counted.into_iter().filter_map(count).collect()
    }
}

/// Whether reading the values of every product takes less time than intersecting the products with
/// those of every value, in steps of about a nanosecond.
fn is_faster_one_by_one<'a>(
    values: impl Iterator<Item = &'a FacetValue>,
    products: &RoaringBitmap,
) -> bool {
    /// For a product with several values.
    const STEPS_TO_READ_VALUES: u64 = 10;
    /// For a value that hardly any product has.
    const STEPS_TO_INTERSECT: u64 = 50;
    let words = u64::from(products.max().unwrap_or(0)) / 64;
    let len = products.len();
    let intersect = |value: &FacetValue| STEPS_TO_INTERSECT + value.slots.len().min(len).min(words);
    let mut steps = 0;
    let most_steps = len * STEPS_TO_READ_VALUES;
    values.map(intersect).any(|more| {
        steps += more;
        steps >= most_steps
    })
}

/// Keeps the attributes that most products have.
fn keep_main_attributes(fields: &mut BTreeMap<&FacetField, Vec<(&FacetValue, u64)>>) {
    let is_attribute = |field: &FacetField| matches!(field, FacetField::Attribute(_));
    let mut attributes: Vec<(u64, FacetField)> = fields
        .iter()
        .filter(|(field, _)| is_attribute(field))
        .map(|(field, values)| (values.iter().map(|(_, count)| count).sum(), (*field).clone()))
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
