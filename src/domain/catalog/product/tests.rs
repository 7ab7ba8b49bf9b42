use super::*;

fn sample_details() -> ProductDetails {
    ProductDetails {
        sku: Some("TEA-1".into()),
        name: "Mint tea".into(),
        description: String::new(),
        price: Money::parse("4.50", "EUR".parse().unwrap()).unwrap(),
        category: Some("tea".into()),
        tags: vec!["green".into()],
        image_url: None,
        attributes: BTreeMap::from([("organic".into(), AttributeValue::Bool(true))]),
        purchase_limit: Some(2),
        weight_grams: Some(250),
        tax_class: Some("reduced".into()),
    }
}

fn invalid_fields(details: &ProductDetails) -> Vec<String> {
    details
        .validate()
        .err()
        .map(|f| f.into_vec().into_iter().map(|f| f.field).collect())
        .unwrap_or_default()
}

#[test]
fn valid_details_pass_and_every_error_is_reported() {
    assert_eq!(sample_details().validate(), Ok(()));
    let bad = ProductDetails {
        sku: Some("line\nbreak".into()),
        name: " ".into(),
        description: "\u{0}".into(),
        price: Money::from_minor_units(
            MAX_PRICE_MINOR_UNITS + 1,
            sample_details().price.currency(),
        )
        .unwrap(),
        category: Some(String::new()),
        tags: vec!["a|b".into()],
        image_url: Some("javascript:alert(1)".into()),
        attributes: BTreeMap::from([("k".into(), AttributeValue::Text("\u{7}".into()))]),
        purchase_limit: Some(0),
        weight_grams: Some(MAX_WEIGHT_GRAMS + 1),
        tax_class: Some(String::new()),
    };
    assert_eq!(
        invalid_fields(&bad).join(" "),
        "name description price sku category tags image_url attributes.k purchase_limit \
         weight_grams tax_class"
    );
}

#[test]
fn sku_is_any_text_of_1_to_100_characters() {
    let is_valid = |sku: &str| {
        let details = ProductDetails { sku: Some(sku.into()), ..sample_details() };
        invalid_fields(&details).is_empty()
    };
    for sku in ["12 Oaktree", "Ä-12", "品番12", "\"quoted\"", &"品".repeat(100)] {
        assert!(is_valid(sku), "{sku}");
    }
    for sku in ["", &"x".repeat(101), "a\tb", "a\u{0}", "a\u{85}b"] {
        assert!(!is_valid(sku), "{sku:?}");
    }
}

#[test]
fn patch_sets_named_fields_and_null_clears_them() {
    let product = Product::new(ProductId::new(), sample_details(), Timestamp::default());
    let patch = ProductPatch {
        name: Some(Some("Sweet mint tea".into())),
        category: Some(None),
        purchase_limit: Some(None),
        weight_grams: Some(None),
        tax_class: Some(Some("books".into())),
        tags: Some(None),
        attributes: Some(Some(BTreeMap::from([
            ("organic".into(), None),
            ("g".into(), Some(AttributeValue::Number(250.into()))),
        ]))),
        ..ProductPatch::default()
    };
    let after = product.apply_patch(patch).unwrap();
    assert_eq!(after.name, "Sweet mint tea");
    assert_eq!((after.category, after.purchase_limit, after.tags.len()), (None, None, 0));
    assert_eq!((after.weight_grams, after.tax_class.as_deref()), (None, Some("books")));
    assert_eq!(
        after.attributes,
        BTreeMap::from([("g".into(), AttributeValue::Number(250.into()))])
    );
    assert_eq!(after.sku, product.details.sku);
}

#[test]
fn patch_cannot_clear_required_fields() {
    let product = Product::new(ProductId::new(), sample_details(), Timestamp::default());
    let patch = ProductPatch { name: Some(None), price: Some(None), ..ProductPatch::default() };
    let errors = product.apply_patch(patch).unwrap_err().into_vec();
    assert_eq!(errors.iter().map(|f| f.field.as_str()).collect::<Vec<_>>(), ["name", "price"]);
}

#[test]
fn new_product_requires_name_and_price() {
    let price = Some(Some(sample_details().price));
    let new = ProductPatch {
        name: Some(Some("Cup".into())),
        price,
        category: Some(None),
        ..ProductPatch::default()
    };
    let made = new.clone().into_details().unwrap();
    assert_eq!((made.name.as_str(), made.category, made.tags.len()), ("Cup", None, 0));
    let errors = ProductPatch { name: Some(None), price: None, ..new }
        .into_details()
        .unwrap_err()
        .into_vec();
    assert_eq!(errors.iter().map(|f| f.field.as_str()).collect::<Vec<_>>(), ["name", "price"]);
}

#[test]
fn replacing_with_equal_details_is_no_change() {
    let product = Product::new(ProductId::new(), sample_details(), Timestamp::default());
    assert_eq!(product.with_details(sample_details(), Timestamp::from_millis(5)), None);
    let other = ProductDetails { name: "Tea".into(), ..sample_details() };
    assert_eq!(product.with_details(other, Timestamp::from_millis(5)).unwrap().version, 2);
}
