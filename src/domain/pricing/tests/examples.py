#!/usr/bin/env python3
"""Works out the table of examples as a spreadsheet would: with fractions, cell by cell.

`examples.py` compares every row of examples.csv with its own results and prints five of them with
their formulas. `examples.py --write` writes the results into the table.

Columns are `;`-separated lists. Lines: `A 3 x 0.33`, with `class=`, `grams=`, `cat=`, `tags=a|b`;
`L*200` stands for L001 to L200. Promotions: `P 10%`, `P -5`, `P free`, `P 2+1@100%`, with `code=`,
`on=A|B`, `cat=`, `tag=`, `min=`, `prio=`, `from=`, `to=`, `limit=`, `used=`, `combinable`. Now is
moment 1000. Methods: `M 4.90`, with `in=DE|AT`, `free_from=` and `per_kg=`. Rates: `VAT 0.19 DE`,
with `region=` and `class=`. The results name what they are for.
"""
import csv, pathlib, sys
from fractions import Fraction as F

TABLE = pathlib.Path(__file__).with_name("examples.csv")
DECIMALS = {"JPY": 0, "KWD": 3}
RESULTS = ["discounts", "line_discounts", "reasons", "shipping", "taxes", "line_taxes", "total"]


def half_up(number):
    return (2 * number.numerator + number.denominator) // (2 * number.denominator)


def items(cell):
    for text in filter(None, (part.strip() for part in cell.split(";"))):
        words = text.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        yield words[0], [word for word in words[1:] if "=" not in word], options


class Sheet:
    def __init__(self, row):
        self.row, self.scale = row, 10 ** DECIMALS.get(row["currency"], 2)
        self.included = row["prices"] == "gross"
        country, _, region = row["to"].partition("-")
        self.country, self.region = country, region or None
        self.lines = {}
        for name, words, options in items(row["lines"]):
            name, _, count = name.partition("*")
            for at in range(1, int(count or 1) + 1):
                key = f"{name}{at:03}" if count else name
                self.lines[key] = {
                    "units": int(words[0]), "price": self.minor(words[2]),
                    "class": options.get("class"), "grams": int(options.get("grams", 0)),
                    "cat": options.get("cat"),
                    "tags": set(options.get("tags", "").split("|")) - {""},
                }
        self.order = sorted(self.lines)
        self.subtotal = sum(line["units"] * line["price"] for line in self.lines.values())
        self.promotions = list(items(row["promotions"]))
        self.codes = [code.lower() for code in row["codes"].split()]

    def minor(self, text):
        exact = F(text) * self.scale
        assert exact.denominator == 1, text
        return int(exact)

    def shown(self, minor):
        decimals = DECIMALS.get(self.row["currency"], 2)
        text = f"{minor // self.scale}.{minor % self.scale:0{decimals}}" if decimals else str(minor)
        return text

    def eligible(self, options):
        chosen = lambda key, line: (
            not {"on", "cat", "tag"} & options.keys()
            or key in options.get("on", "").split("|")
            or (line["cat"] and line["cat"] in options.get("cat", "").split("|"))
            or line["tags"] & set(options.get("tag", "").split("|")))
        return [key for key in self.order if chosen(key, self.lines[key])]

    def refusal(self, promotion):
        _, words, options = promotion
        if "inactive" in words: return "inactive"
        if int(options.get("from", 0)) > 1000: return "not_started"
        if int(options.get("to", 9999)) <= 1000: return "expired"
        if int(options.get("used", 0)) >= int(options.get("limit", 9999)): return "usage_limit"
        if self.subtotal < self.minor(options.get("min", "0")): return "min_subtotal"
        if not self.eligible(options): return "no_eligible_items"

    def spread(self, amount, costs, left):
        whole, shares = sum(costs.values()), {}
        if whole:
            exact = {key: amount * cost / whole for key, cost in costs.items()}
            shares = {key: int(share) for key, share in exact.items()}
            for key in sorted(exact, key=lambda key: (-(exact[key] - shares[key]), key)):
                if sum(shares.values()) < amount and shares[key] < left[key]:
                    shares[key] += 1
        for key, share in shares.items():
            left[key] -= share
        return sum(shares.values())

    def take(self, promotion, left):
        _, words, options = promotion
        effect, keys = words[0], self.eligible(options)
        if effect == "free":
            return 0
        if effect.startswith("-"):
            costs = {key: F(left[key]) for key in keys}
            return self.spread(min(self.minor(effect[1:]), int(sum(costs.values()))), costs, left)
        if "+" in effect:
            counts, percent = effect.split("@")
            buy, get = map(int, counts.split("+"))
            units = [key for key in sorted(keys, key=lambda key: (self.lines[key]["price"], key))
                     for _ in range(self.lines[key]["units"])]
            units = units[: len(units) // (buy + get) * get]
            costs = {key: F(left[key] * units.count(key), self.lines[key]["units"])
                     for key in sorted(set(units))}
        else:
            percent, costs = effect, {key: F(left[key]) for key in keys}
        return self.spread(half_up(F(percent.rstrip("%")) / 100 * sum(costs.values())), costs, left)

    def rate(self, wanted):
        found = []
        for name, words, options in items(self.row["rates"]):
            in_region = options.get("region", self.region) == self.region
            if words[1] == self.country and in_region and options.get("class") in wanted:
                found.append(("class" not in options, "region" not in options, name, words[0]))
        return min(found)[2:] if found else None

    def choose_method(self, goods):
        best = None
        for name, words, options in items(self.row["methods"]):
            served = self.country and self.country in options.get("in", self.country).split("|")
            if not served or not self.lines:
                continue
            kilos = F(sum(l["units"] * l["grams"] for l in self.lines.values()), 1000)
            cost = half_up(self.minor(words[0]) + self.minor(options.get("per_kg", "0")) * kilos)
            if "free_from" in options and goods >= self.minor(options["free_from"]):
                cost = 0
            key = (name != self.row["method"], cost, name)
            best = min(best, key) if best else key
        return best and (best[2], best[1])

    def tax(self, rate, base):
        rate = F(rate)
        return half_up(base * rate / (1 + rate) if self.included else base * rate)

    def evaluate(self, promotions):
        left = {key: l["units"] * l["price"] for key, l in self.lines.items()}
        given = [[promotion, self.take(promotion, left)] for promotion in promotions]
        goods = sum(left.values())
        shipping = self.choose_method(goods)
        paid = shipping[1] if shipping else 0
        for entry in given:
            if entry[0][1][0] == "free":
                entry[1], paid = paid, 0
        sums, bases, line_taxes = {}, {}, {}
        for key in self.order:
            rate = self.country and self.rate((self.lines[key]["class"], None))
            line_taxes[key] = self.tax(rate[1], left[key]) if rate else 0
            if rate:
                sums[rate] = sums.get(rate, 0) + line_taxes[key]
                bases[rate] = bases.get(rate, 0) + left[key]
        if shipping:
            largest = sorted(bases, key=lambda rate: (-bases[rate], -F(rate[1]), rate[0]))
            rate = self.rate(("shipping",)) or (largest[0] if largest else None)
            if rate:
                sums[rate] = sums.get(rate, 0) + self.tax(rate[1], paid)
        total = goods + paid + (0 if self.included else sum(sums.values()))
        return {"given": [entry for entry in given if entry[1]], "left": left, "total": total,
                "shipping": shipping, "sums": sums, "line_taxes": line_taxes}

    def results(self):
        order = lambda promotion: (-int(promotion[2].get("prio", 0)), promotion[0])
        given = lambda p: "code" not in p[2] or p[2]["code"].lower() in self.codes
        applicable = [p for p in self.promotions if given(p) and not self.refusal(p)]
        applicable.sort(key=order)
        choices = [[p for p in applicable if "combinable" in p[1]]]
        choices += [[p] for p in applicable if "combinable" not in p[1]]
        best = min((self.evaluate(choice) for choice in choices), key=lambda found: found["total"])
        given = [promotion[0] for promotion, _ in best["given"]]
        reasons = []
        for code in self.codes:
            known = [p for p in self.promotions if p[2].get("code", "").lower() == code]
            reason = self.refusal(known[0]) if known else "inactive"
            if not reason and known[0][0] not in given:
                reason = "not_best" if self.evaluate(known)["given"] else "no_eligible_items"
            reasons.append(f"{code}={reason or 'applied'}")
        off = {k: l["units"] * l["price"] - best["left"][k] for k, l in self.lines.items()}
        shown = lambda pair: f"{pair[0]}={self.shown(pair[1])}"
        amounts = lambda pairs: "; ".join(shown(pair) for pair in pairs if pair[1])
        rates = sorted(best["sums"].items(), key=lambda entry: (-F(entry[0][1]), entry[0][0]))
        shipping = best["shipping"]
        return {
            "discounts": "; ".join(f"{p[0]}={self.shown(amount)}" for p, amount in best["given"]),
            "line_discounts": amounts((key, off[key]) for key in self.order),
            "reasons": "; ".join(reasons),
            "shipping": f"{shipping[0]}={self.shown(shipping[1])}" if shipping else "",
            "taxes": "; ".join(f"{rate[0]} {rate[1]}={self.shown(tax)}" for rate, tax in rates),
            "line_taxes": amounts((key, best["line_taxes"][key]) for key in self.order),
            "total": self.shown(best["total"]),
        }


def spreadsheet():
    """Five rows as plain formulas, without any of the code above: what one types into cells."""
    cent = lambda number: half_up(F(number) * 100)
    yield "3 x 0.33 with 19 % included", cent("0.99"), cent(F("0.99") * F("0.19") / F("1.19"))
    off = half_up(F(3000 + 2000) / 10)
    books, lamp = 3000 - F(off * 3000, 5000), 2000 - F(off * 2000, 5000)
    taxes = half_up(books * F("0.07")) + half_up(lamp * F("0.19"))
    yield "10 % off goods at 7 % and 19 %", int(books + lamp) + taxes, taxes
    yield "buy 2 get 1 over mixed prices", 3 * 1000 + 2 * 750 + 500 - 500 - 750, 0
    yield "amount off larger than the goods", max(0, 1998 - 5000) + 490, 0
    tax = half_up(F(10000) * F("0.08875"))
    yield "tax by region: New York City", 10000 + tax, tax


def main():
    rows = list(csv.DictReader(TABLE.open()))
    columns = list(rows[0])
    wrong = 0
    for row in rows:
        results = Sheet(row).results()
        if "--write" not in sys.argv:
            for column in RESULTS:
                if row[column] != results[column]:
                    wrong += 1
                    print(f"{row['example']}: {column} is {row[column]!r}, not {results[column]!r}")
        row.update(results)
    if "--write" in sys.argv:
        with TABLE.open("w", newline="") as file:
            table = csv.DictWriter(file, columns, lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
    totals = {row["example"]: row for row in rows}
    for example, total, tax in spreadsheet():
        row = totals[example]
        parts = filter(None, row["taxes"].split(";"))
        taxes = sum(int(F(part.rpartition("=")[2]) * 100) for part in parts)
        same = (int(F(row["total"]) * 100), taxes) == (total, tax)
        wrong += not same
        print(f"{example}: total {total}, tax {tax}: {'the same' if same else 'NOT THE SAME'}")
    print(f"{len(rows)} examples, {wrong} differences")
    sys.exit(bool(wrong))


main()
