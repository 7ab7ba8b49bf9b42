//! The names of the methods: a closed list, so that clients cannot create labels of metrics.

/// Every method that the server has, as in the path of a call.
const METHODS: [&str; 11] = [
    "souk.v1.AuthService/ValidateToken",
    "souk.v1.CatalogService/GetProduct",
    "souk.v1.CatalogService/BatchGetProducts",
    "souk.v1.CatalogService/ListProducts",
    "souk.v1.InventoryService/GetStock",
    "souk.v1.InventoryService/AdjustStock",
    "souk.v1.CartService/GetCart",
    HEALTH_CHECK,
    HEALTH_WATCH,
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

const HEALTH_CHECK: &str = "grpc.health.v1.Health/Check";
const HEALTH_WATCH: &str = "grpc.health.v1.Health/Watch";

/// The name for all methods that the server does not have.
const UNMATCHED: &str = "unmatched";

/// The services that a health check can ask for, besides the server as a whole.
pub(super) const SERVICES: [&str; 4] = [
    "souk.v1.AuthService",
    "souk.v1.CatalogService",
    "souk.v1.InventoryService",
    "souk.v1.CartService",
];

/// A method that the server has, or `unmatched`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Method(&'static str);

impl Method {
    /// Finds the method that a path names.
    pub(super) fn from_path(path: &str) -> Self {
        let name = path.strip_prefix('/').unwrap_or_default();
        Self(METHODS.into_iter().find(|method| *method == name).unwrap_or(UNMATCHED))
    }

    /// The full name, such as `souk.v1.CatalogService/GetProduct`.
    pub(super) const fn name(self) -> &'static str {
        self.0
    }

    /// The service and the method.
    pub(super) fn parts(self) -> (&'static str, &'static str) {
        self.0.split_once('/').unwrap_or((self.0, self.0))
    }

    /// Whether the server does not have the method.
    pub(super) fn is_unmatched(self) -> bool {
        self.0 == UNMATCHED
    }

    /// Whether the method is one of the shop's, and not of health or reflection.
    pub(super) fn is_of_shop(self) -> bool {
        self.0.starts_with("souk.")
    }

    /// Whether the method is for probes, which must work under any load.
    pub(super) fn is_probe(self) -> bool {
        matches!(self.0, HEALTH_CHECK | HEALTH_WATCH)
    }

    /// Whether a call may go on for as long as its client likes, so that the server ends it when it
    /// stops.
    pub(super) fn is_open_ended(self) -> bool {
        self.0 == HEALTH_WATCH || self.0.starts_with("grpc.reflection.")
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::grpc::pb::DESCRIPTORS;

    #[test]
    fn every_method_of_the_files_is_listed() {
        let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
        let mut methods = Vec::new();
        let mut services = Vec::new();
        for file in &files {
            for service in &file.service {
                let service_name = format!("{}.{}", file.package(), service.name());
                let names = service.method.iter().map(|m| format!("{service_name}/{}", m.name()));
                methods.extend(names);
                services.push(service_name);
            }
        }
        methods.sort_unstable();
        services.sort_unstable();
        let mut listed: Vec<_> =
            METHODS.into_iter().filter(|name| Method(name).is_of_shop()).collect();
        listed.sort_unstable();
        assert_eq!(methods, listed);
        let mut listed = SERVICES;
        listed.sort_unstable();
        assert_eq!(services, listed);
    }

    #[test]
    fn unknown_paths_share_one_name() {
        let name = |path| Method::from_path(path).name();
        assert_eq!(name("/souk.v1.CartService/GetCart"), "souk.v1.CartService/GetCart");
        assert_eq!(name("/souk.v1.CartService/Buy"), "unmatched");
        assert_eq!(name("souk.v1.CartService/GetCart"), "unmatched");
        assert!(Method::from_path("/").is_unmatched());
    }
}
