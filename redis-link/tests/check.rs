//! What `nginx -t` says about `weir_redis`.

// It waits for real processes, and measures.
#![allow(clippy::disallowed_methods)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::{options, private_file};
use weir_redis_link::{Link, LinkOptions};

fn refusal(options: &LinkOptions) -> String {
    Link::check(options).expect_err("must be refused").to_string()
}

#[test]
fn addresses_of_a_single_server_are_taken() {
    for url in [
        "redis://127.0.0.1",
        "redis://redis.example:6380/12",
        "redis://user:p%40ss@redis.example/0",
        "redis://[::1]:6379",
        "rediss://redis.example",
        "valkey://redis.example",
        "unix:///run/redis.sock?db=2",
    ] {
        let checked = Link::check(&options(url));
        // A machine may have no certificate authorities at all.
        let without_authorities = url.starts_with("rediss") && checked.is_err();
        assert!(checked.is_ok() || without_authorities, "{url}: {checked:?}");
    }
}

#[test]
fn other_addresses_are_refused_with_what_is_supported() {
    for (url, part) in [
        ("redis-sentinel://:s3cret@a", "redis+sentinel://"),
        ("redis+sentinel://u:s3cret@a,b", "name the master"),
        ("redis+sentinel://u:s3cret@a,b/", "name the master"),
        ("redis+sentinel://u:s3cret@a/main/x", "a database's number"),
        ("redis+sentinel://u:s3cret@a/main?db=1", "not supported"),
        ("redis+cluster://u:s3cret@a:6379,/", "IPv6 address in brackets"),
        ("redis+cluster://u:s3cret@a:0", "IPv6 address in brackets"),
        ("redis+cluster://u:s3cret@::1", "IPv6 address in brackets"),
        ("redis+cluster://u:s3cret@a:6379/1", "no databases"),
        ("redis+cluster://u:s3cret%ff@a", "%XX"),
        ("rediss+cluster://u:s3cret@a#insecure", "ca=FILE"),
        ("redis://u:s3cret@a:6379,b:6379", "redis+cluster://HOST:PORT,HOST:PORT"),
        ("http://u:s3cret@a", "supported are redis://"),
        ("u:s3cret@a:6379", "supported are redis://"),
        ("redis://:s3cret@a/x", "redis://HOST:PORT/DATABASE"),
        ("redis://:s3cret@a/-1", "negative"),
        ("redis://:s3cret@a:99999", "redis://HOST:PORT/DATABASE"),
        ("redis://", "redis://HOST:PORT/DATABASE"),
        ("redis://u:s3cret@169.254.169.254", "a cloud's metadata"),
        ("rediss://u:s3cret@[::ffff:169.254.169.254]:6379", "a cloud's metadata"),
        ("redis+cluster://u:s3cret@a,[fd00:ec2::254]", "a cloud's metadata"),
        ("redis+sentinel://u:s3cret@a,169.254.170.2/main", "a cloud's metadata"),
        ("redis://:s3/cret@a", "redis://HOST:PORT/DATABASE"),
        ("rediss://:s3cret@a/0#insecure", "ca=FILE"),
        ("redis://:s3cret@a/0?protocol=resp3", "not supported"),
    ] {
        let text = refusal(&options(url));
        assert!(text.contains(part), "{url}: {text}");
        assert!(!text.contains("s3cret") && !text.contains("s3/cret"), "{text}");
    }
    let meant = LinkOptions { allow_link_local: true, ..options("redis://169.254.169.254") };
    Link::check(&meant).unwrap();
    let none = LinkOptions { urls: Vec::new(), ..options("") };
    assert!(refusal(&none).contains("redis://127.0.0.1:6379/0"));
    let url = "redis://:s3cret@a".to_owned();
    let text = refusal(&LinkOptions { urls: vec![url.clone(), url], ..options("") });
    assert!(text.contains("single servers") && !text.contains("s3cret"), "{text}");
}

#[test]
fn sentinels_and_clusters_are_taken_by_their_hosts() {
    for urls in [
        &["redis+sentinel://a:26379,b:26380,c/main"][..],
        &["redis+sentinel://user:p%40ss@10.0.0.1,[::1]:5/main/3", "redis+sentinel://d/main/3"],
        &["valkey+sentinel://a/my.master-1"],
        &["redis+cluster://a:7000,b:7001,[fe80::1]"],
        &["redis+cluster://u:p@a:7000", "redis+cluster://b:7001", "redis+cluster://u:p@c/"],
    ] {
        let urls = urls.iter().map(|url| (*url).to_owned()).collect();
        Link::check(&LinkOptions { urls, ..options("") }).unwrap();
    }
    for (first, second) in [
        ("redis+cluster://a", "redis+sentinel://b/main"),
        ("redis+cluster://a", "rediss+cluster://b"),
        ("redis+cluster://a", "redis://b"),
        ("redis+cluster://u:s3cret@a", "redis+cluster://u:s3cret2@b"),
        ("redis+sentinel://a/one", "redis+sentinel://b/two"),
    ] {
        let urls = vec![first.to_owned(), second.to_owned()];
        let text = refusal(&LinkOptions { urls, ..options("") });
        assert!(text.contains("of the first address") && !text.contains("s3cret"), "{text}");
    }
}

#[test]
fn what_is_for_sentinels_is_for_sentinels() {
    let dir = tempfile::tempdir().unwrap();
    let file = private_file(dir.path(), "password", "s3cret\n");
    let base = options("redis+sentinel://a/main");
    Link::check(&LinkOptions { sentinel_password_file: Some(file.clone()), ..base.clone() }).unwrap();
    let nobody = LinkOptions { sentinel_user: Some("weir".into()), ..base };
    assert!(refusal(&nobody).contains("add sentinel_password_file=FILE"));
    let other = LinkOptions { sentinel_password_file: Some(file), ..options("redis://a") };
    assert!(refusal(&other).contains("redis+sentinel://"));
}

#[test]
fn names_and_times_are_checked() {
    let base = options("redis://127.0.0.1");
    for prefix in ["", "a b", "a{b}", "a\n", &"x".repeat(65)] {
        let text = refusal(&LinkOptions { prefix: prefix.to_owned(), ..base.clone() });
        assert!(text.starts_with("prefix="), "{text}");
    }
    let text = refusal(&LinkOptions { gateway: String::new(), ..base.clone() });
    assert!(text.contains("weir_gateway"), "{text}");
    let text = refusal(&LinkOptions { timeout: Duration::ZERO, ..base });
    assert!(text.contains("1 ms"), "{text}");
}

#[test]
fn passwords_are_checked_without_showing_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = private_file(dir.path(), "password", "s3cret\n");
    let base = LinkOptions { password_file: Some(file.clone()), ..options("redis://127.0.0.1") };
    Link::check(&base).unwrap();

    let both = LinkOptions { urls: vec!["redis://:s3cret@127.0.0.1".into()], ..base.clone() };
    assert!(refusal(&both).contains("keep the file"));
    let nobody =
        LinkOptions { user: Some("weir".into()), password_file: None, ..options("redis://127.0.0.1") };
    assert!(refusal(&nobody).contains("password_file=FILE"));
    let missing = LinkOptions { password_file: Some(dir.path().join("none")), ..base.clone() };
    assert!(refusal(&missing).contains("nginx's workers"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refusal(&base).contains("chmod 600"));
    assert!(Link::start(base, Box::new(|| {})).is_err());
}
