//! The addresses at which nodes reach each other.

use super::from_env;

#[test]
fn cluster_has_an_address_that_other_nodes_can_reach() {
    let error = |bind: &str, advertise: &str| {
        from_env(&[
            ("MONGO_URI", "mongodb://db/?replicaSet=souk"),
            ("DB_NAME", "souk"),
            ("SOUK__STORE__KIND", "mongodb"),
            ("JWT_SECRET", "7f3a91c05d2be8466a90c1d4e5f31b7702"),
            ("SOUK__HTTP__BIND", "127.0.0.1:8080"),
            ("SOUK__CLUSTER__BIND", bind),
            ("SOUK__CLUSTER__ADVERTISE", advertise),
        ])
        .try_load()
        .err()
        .map(|error| error.to_string())
    };
    assert_eq!(error("", ""), None);
    assert_eq!(error("127.0.0.1:7400", ""), None);
    for advertised in ["node-1:7400", "10.0.0.7:7400", "[fd00::7]:7400"] {
        assert_eq!(error("0.0.0.0:7400", advertised), None);
    }
    for (bind, advertise, message) in [
        ("0.0.0.0:7400", "", "0.0.0.0:7400 is no address that other nodes can connect to"),
        ("127.0.0.1:8080", "", "127.0.0.1:8080 is http.bind, too; use another port"),
        ("", "node-1:7400", "set cluster.bind, too"),
        ("0.0.0.0:7400", "node-1", "\"node-1\" is not a host and port"),
        ("0.0.0.0:7400", ":7400", "\":7400\" is not a host and port"),
        ("0.0.0.0:7400", "node-1:0", "\"node-1:0\" is not a host and port"),
        ("0.0.0.0:7400", "$node:7400", "\"$node:7400\" is not a host and port"),
    ] {
        let error = error(bind, advertise).unwrap();
        assert!(error.contains(message), "{error}");
    }
    assert_eq!(
        from_env(&[("SOUK__CLUSTER__BIND", "127.0.0.1:7400")]).load_error(),
        "cluster.bind (SOUK__CLUSTER__BIND): needs store.kind = \"mongodb\": the embedded store \
         has a single node"
    );
}
