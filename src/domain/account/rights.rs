//! What an account may do: its role, and the scopes of a member of staff.

use std::fmt;

use super::Role;
use crate::domain::{ids::UserId, validation::ValidationErrors};

/// A part of the shop that a member of staff may change or read.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[repr(u8)]
pub enum Scope {
    /// Change products.
    #[strum(serialize = "catalog")]
    Catalog,
    /// Read what of products is not public.
    #[strum(serialize = "catalog:read")]
    CatalogRead,
    /// Change stock.
    #[strum(serialize = "stock")]
    Stock,
    /// Read stock levels and movements.
    #[strum(serialize = "stock:read")]
    StockRead,
    /// Change everybody's orders.
    #[strum(serialize = "orders")]
    Orders,
    /// Read everybody's orders.
    #[strum(serialize = "orders:read")]
    OrdersRead,
    /// Change customers.
    #[strum(serialize = "customers")]
    Customers,
    /// Read accounts.
    #[strum(serialize = "customers:read")]
    CustomersRead,
    /// Change promotions.
    #[strum(serialize = "promotions")]
    Promotions,
    /// Read promotions.
    #[strum(serialize = "promotions:read")]
    PromotionsRead,
    /// Change shipping methods.
    #[strum(serialize = "shipping")]
    Shipping,
    /// Read shipping methods.
    #[strum(serialize = "shipping:read")]
    ShippingRead,
    /// Change tax rates.
    #[strum(serialize = "taxes")]
    Taxes,
    /// Read tax rates.
    #[strum(serialize = "taxes:read")]
    TaxesRead,
    /// Change webhooks.
    #[strum(serialize = "webhooks")]
    Webhooks,
    /// Read webhooks.
    #[strum(serialize = "webhooks:read")]
    WebhooksRead,
}

impl Scope {
    /// Every scope, in the order of declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name in requests and responses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    const fn bit(self) -> u16 {
        1 << self as u8
    }

    /// The scopes that include this one: itself, and for `X:read` also `X`, which is declared
    /// before it.
    const fn granting_bits(self) -> u16 {
        let is_read = self as u8 % 2 == 1;
        if is_read { self.bit() | self.bit() >> 1 } else { self.bit() }
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ScopeSet(u16);

impl ScopeSet {
    /// No scope.
    pub const EMPTY: Self = Self(0);

    /// Whether the set permits what `scope` stands for. `X` includes `X:read`.
    #[must_use]
    pub const fn permits(self, scope: Scope) -> bool {
        self.0 & scope.granting_bits() != 0
    }

    /// The scopes of the set, in the order of declaration.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.0 & scope.bit() != 0)
    }

    /// The names of the scopes, in the order of declaration.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        self.iter().map(Scope::as_str).collect()
    }

    /// Parses the names of scopes from a request.
    ///
    /// # Errors
    /// A name that no scope has.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Self, ValidationErrors> {
        let mut errors = ValidationErrors::new();
        let mut set = Self::EMPTY;
        for (index, name) in names.iter().enumerate() {
            match name.as_ref().parse::<Scope>() {
                Ok(scope) => set.0 |= scope.bit(),
                Err(_) => {
                    let known = Self(u16::MAX).names().join(", ");
                    let message = format!("scopes[{index}] must be one of: {known}");
                    errors.add(format!("scopes[{index}]"), "invalid", message);
                }
            }
        }
        errors.into_result(set)
    }

    /// Reads names from the store. One that only a newer version knows permits nothing here.
    pub fn from_stored<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        names.into_iter().filter_map(|name| name.parse::<Scope>().ok()).collect()
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// What an account may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// The account's role.
    pub role: Role,
    /// What a member of staff may do. Empty for every other role.
    pub scopes: ScopeSet,
    /// Whether all of the account's tokens are refused.
    pub blocked: bool,
}

impl Rights {
    /// The rights of most accounts.
    pub const CUSTOMER: Self =
        Self { role: Role::Customer, scopes: ScopeSet::EMPTY, blocked: false };

    /// The rights of a guest, who has no account.
    pub const GUEST: Self = Self { role: Role::Guest, ..Self::CUSTOMER };

    /// Whether the rights include `scope`. An admin has all scopes.
    #[must_use]
    pub const fn permits(self, scope: Scope) -> bool {
        match self.role {
            Role::Admin => true,
            Role::Staff => self.scopes.permits(scope),
            Role::Customer | Role::Guest => false,
        }
    }

    /// Whether an account with these rights keeps the shop from having no admin.
    #[must_use]
    pub const fn is_active_admin(self) -> bool {
        matches!(self.role, Role::Admin) && !self.blocked
    }
}

/// The rights that an account has from one of its versions on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionedRights {
    /// The account.
    pub user_id: UserId,
    /// The account's version.
    pub version: u64,
    /// Its rights in this version.
    pub rights: Rights,
}

/// A change of rights, as an admin asks for it. What is `None` stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RightsChange {
    /// The new role.
    pub role: Option<Role>,
    /// The new scopes, all of them.
    pub scopes: Option<ScopeSet>,
    /// Whether the account is blocked.
    pub blocked: Option<bool>,
}

impl RightsChange {
    /// The rights after the change. Leaving the role `staff` empties the scopes.
    ///
    /// # Errors
    /// `scopes` for another role than `staff`.
    pub fn apply(self, before: Rights) -> Result<Rights, ValidationErrors> {
        let role = self.role.unwrap_or(before.role);
        let blocked = self.blocked.unwrap_or(before.blocked);
        if role != Role::Staff && self.scopes.is_some() {
            let message = "scopes needs the role staff";
            return Err(ValidationErrors::single("scopes", "role_without_scopes", message));
        }
        let scopes = match role {
            Role::Staff => self.scopes.unwrap_or(before.scopes),
            _ => ScopeSet::EMPTY,
        };
        Ok(Rights { role, scopes, blocked })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staff(names: &[&str]) -> Rights {
        let scopes = ScopeSet::parse(names).unwrap();
        Rights { role: Role::Staff, scopes, blocked: false }
    }

    #[test]
    fn scope_includes_reading_and_nothing_else() {
        for scope in Scope::ALL {
            let rights = staff(&[scope.as_str()]);
            for other in Scope::ALL {
                let expected =
                    other == scope || other.as_str() == format!("{}:read", scope.as_str());
                assert_eq!(rights.permits(*other), expected, "{scope:?} for {other:?}");
            }
        }
    }

    #[test]
    fn only_staff_has_scopes_and_an_admin_all() {
        let all = Scope::ALL.iter().copied().collect::<ScopeSet>();
        for scope in Scope::ALL {
            assert!(Rights { role: Role::Admin, ..Rights::CUSTOMER }.permits(*scope));
            assert!(!Rights { scopes: all, ..Rights::CUSTOMER }.permits(*scope));
            assert!(!Rights::GUEST.permits(*scope));
        }
    }

    #[test]
    fn names_read_back_and_unknown_ones_are_errors_or_nothing() {
        let all = Scope::ALL.iter().copied().collect::<ScopeSet>();
        assert_eq!(all.names().len(), 16);
        assert_eq!(ScopeSet::parse(&all.names()), Ok(all));
        assert_eq!(ScopeSet::from_stored(all.names()), all);
        assert_eq!(ScopeSet::from_stored(["stock", "moon"]).names(), ["stock"]);
        let errors = ScopeSet::parse(&["stock", "moon", ""]).unwrap_err().into_vec();
        let fields: Vec<&str> = errors.iter().map(|error| &*error.field).collect();
        assert_eq!(fields, ["scopes[1]", "scopes[2]"]);
    }

    #[test]
    fn change_replaces_scopes_and_leaving_staff_empties_them() {
        let before = staff(&["stock", "orders:read"]);
        let scopes = |names: &[&str]| Some(ScopeSet::parse(names).unwrap());
        let change = RightsChange { scopes: scopes(&["taxes"]), ..RightsChange::default() };
        assert_eq!(change.apply(before), Ok(staff(&["taxes"])));
        let blocked = RightsChange { blocked: Some(true), ..RightsChange::default() };
        assert_eq!(blocked.apply(before), Ok(Rights { blocked: true, ..before }));
        let customer = RightsChange { role: Some(Role::Customer), ..RightsChange::default() };
        assert_eq!(customer.apply(before), Ok(Rights::CUSTOMER));
        for role in [None, Some(Role::Customer), Some(Role::Admin)] {
            let change = RightsChange { role, scopes: scopes(&[]), blocked: None };
            assert!(change.apply(Rights::CUSTOMER).is_err(), "{role:?}");
        }
        let promoted =
            RightsChange { role: Some(Role::Staff), scopes: scopes(&["stock"]), blocked: None };
        assert_eq!(promoted.apply(Rights::CUSTOMER), Ok(staff(&["stock"])));
    }
}
