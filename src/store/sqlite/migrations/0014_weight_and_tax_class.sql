-- What shipping and tax depend on.
ALTER TABLE products ADD COLUMN weight_grams INTEGER;
ALTER TABLE products ADD COLUMN tax_class TEXT;
