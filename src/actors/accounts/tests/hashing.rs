//! Tests of what passwords are hashed for, and at which cost.

use std::sync::mpsc;

use actix_rt::task::JoinHandle;

use super::{super::hash_queue::HashOrigin, *};

const CUSTOMERS: usize = 14;

type Reply = JoinHandle<Result<AuthenticatedSession, Error>>;

impl AccountFixture {
    /// Occupies the only thread of the hasher until the sender is used.
    async fn block_hashing(&self) -> mpsc::Sender<()> {
        let (go, wait) = mpsc::channel::<()>();
        let (started, running) = tokio::sync::oneshot::channel();
        let hasher = self.deps.hasher.clone();
        actix::spawn(async move {
            let deadline = std::time::Instant::now() + Duration::from_secs(60);
            let block = move || {
                started.send(()).unwrap();
                Ok(wait.recv().is_ok())
            };
            hasher.run_job(HashOrigin::OPERATOR, deadline, block).await
        });
        running.await.unwrap();
        go
    }

    fn start_registration(&self, number: usize, address: String) -> Reply {
        let email = format!("stranger{number}@example.com");
        let message = RegisterUser {
            address: address.parse().unwrap(),
            ..register_message(&email, PASSWORD)
        };
        let accounts = self.accounts.clone();
        actix::spawn(async move { accounts.send(message).await.unwrap() })
    }

    fn start_login(&self, number: usize, address: String) -> Reply {
        let login = Login {
            email: Email::parse(&format!("customer{number}@example.com")).ok(),
            password: Password::unvalidated(PASSWORD.into()),
            address: address.parse().unwrap(),
            user_agent: None,
            ticket: new_ticket(),
        };
        let accounts = self.accounts.clone();
        actix::spawn(async move { accounts.send(login).await.unwrap() })
    }

    /// Waits until each of these requests waits for the hasher or is refused.
    async fn wait_until_queued(&self, replies: &[&[Reply]]) {
        let total: usize = replies.iter().map(|replies| replies.len()).sum();
        let ended =
            || replies.iter().copied().flatten().filter(|reply| reply.is_finished()).count();
        while self.deps.hasher.waiting_count() + ended() < total {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Floods the shop with registrations from as many addresses; every honest login succeeds.
async fn assert_logins_get_through(addresses: usize, accepted: usize) {
    let shop = AccountFixture::open(FixtureSettings { threads: 1, ..FixtureSettings::default() });
    for n in 0..CUSTOMERS {
        shop.register(&format!("customer{n}@example.com")).await.unwrap();
    }
    let go = shop.block_hashing().await;
    let flood: Vec<_> =
        (0..40).map(|n| shop.start_registration(n, format!("10.0.2.{}", n % addresses))).collect();
    shop.wait_until_queued(&[&flood]).await;
    // Half of them at an address where they are known.
    let logins: Vec<_> = (0..CUSTOMERS)
        .map(|n| match n % 2 {
            0 => shop.start_login(n, REGISTRATION_ADDRESS.to_owned()),
            _ => shop.start_login(n, format!("10.0.3.{n}")),
        })
        .collect();
    shop.wait_until_queued(&[&flood, &logins]).await;
    go.send(()).unwrap();
    for login in logins {
        login.await.unwrap().expect("logins have a share that registrations cannot take");
    }
    let mut registered = 0;
    for registration in flood {
        match registration.await.unwrap() {
            Ok(_) => registered += 1,
            Err(error) => assert_eq!(error, Error::overloaded()),
        }
    }
    assert_eq!(registered, accepted);
}

#[actix::test]
async fn registrations_from_one_address_keep_no_login_out() {
    assert_logins_get_through(1, 4).await;
}

#[actix::test]
async fn registrations_from_many_addresses_keep_no_login_out() {
    assert_logins_get_through(20, 8).await;
}

#[actix::test]
async fn login_rehashes_password_after_cost_change() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let user = shop.register("ada@example.com").await.unwrap().user.id;
    let hasher = PasswordHasher::start(5, NonZeroUsize::new(1));
    let accounts =
        AccountActor::new(AccountDeps { hasher: hasher.clone(), ..shop.deps.clone() }).start();
    let shop = AccountFixture { accounts, ..shop };
    shop.login("ada@example.com", PASSWORD).await.unwrap();
    let mut stored = shop.deps.store.find_user(user).await.unwrap().unwrap();
    while !hasher.has_current_cost(&stored.password_hash) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        stored = shop.deps.store.find_user(user).await.unwrap().unwrap();
    }
    shop.login("ada@example.com", PASSWORD).await.unwrap();
}

#[actix::test]
async fn unknown_accounts_cost_as_much_as_the_costliest_account() {
    let settings = FixtureSettings { login_limit: 0, cost: 6, ..FixtureSettings::default() };
    let shop = AccountFixture::open(settings);
    shop.register("ada@example.com").await.unwrap();
    // A node with a lower cost learns the cost of the accounts from the store.
    let hasher = PasswordHasher::start(4, NonZeroUsize::new(1));
    let accounts =
        AccountActor::new(AccountDeps { hasher: hasher.clone(), ..shop.deps.clone() }).start();
    let shop = AccountFixture { accounts, ..shop };
    let work_of = async |email: &str| {
        let before = hasher.work_units();
        let result = shop.login(email, "wrong horse").await;
        assert_eq!(error_code(result), ErrorCode::InvalidCredentials);
        hasher.work_units() - before
    };
    while work_of("nobody@example.com").await != 1 << 6 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    shop.register("bob@example.com").await.unwrap();
    for email in ["nobody@example.com", "ada@example.com", "bob@example.com"] {
        assert_eq!(work_of(email).await, 1 << 6, "{email}");
    }
}
