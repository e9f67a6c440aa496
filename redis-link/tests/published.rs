//! Publishing and following over real servers: one, watched by Sentinels, a Cluster.

// It waits for real processes.
#![allow(clippy::disallowed_methods)]

mod common;

use std::sync::{Arc, Mutex};

use common::{PREFIX, options, wait_until};
use weir_redis_link::{Brake, Desk, DeskError, Draft, Follow, Link, News, Release};
use weir_testbed::redis::{Redis, RedisCluster, Sentinel};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn draft(version: u64, text: &[u8]) -> Draft<'_> {
    Draft { version, schema: 1, text, image: None, by: "bob@desk", reason: "a test" }
}

/// A link that follows what is published, and what it was told.
fn follower(url: &str, version: u64) -> (Link, Arc<Mutex<Vec<News>>>) {
    let news: Arc<Mutex<Vec<News>>> = Arc::default();
    let told = news.clone();
    let take = Arc::new(move |item: News| told.lock().unwrap().push(item));
    let follow = Follow { policy: true, version, schema: 1, take };
    (Link::start_following(options(url), Some(follow), Box::new(|| {})).unwrap(), news)
}

fn wait_for(news: &Mutex<Vec<News>>, what: &str, is_it: impl Fn(&News) -> bool) -> News {
    wait_until(what, || news.lock().unwrap().iter().any(&is_it));
    news.lock().unwrap().iter().find(|item| is_it(item)).cloned().unwrap()
}

/// The text of a release of which the news came.
fn text_of(news: &Mutex<Vec<News>>, release: &Release) -> Option<Vec<u8>> {
    let is_it = |n: &News| matches!(n, News::Policy { release: told, .. } if told == release);
    match wait_for(news, "the release", is_it) {
        News::Policy { parcel, .. } => parcel.text(),
        _ => None,
    }
}

fn publish_and_follow(url: &str) {
    let (link, news) = follower(url, 0);
    // Larger than a chunk, and than what one reply may hold.
    let large: Vec<u8> = (0..9_000_000u32).map(|n| (n % 251) as u8).collect();
    block_on(async {
        let desk = Desk::open(options(url)).await.unwrap();
        assert_eq!(desk.head().await.unwrap(), None);
        let first = desk.publish(None, &draft(0xa1, b"first")).await.unwrap();
        assert_eq!((first.number, first.by.as_str(), first.reason.as_str()), (1, "bob@desk", "a test"));
        assert_eq!(text_of(&news, &first).unwrap(), b"first");
        let compiled = Draft { image: Some((7, &large[1..])), ..draft(0xb2, &large) };
        let second = desk.publish(Some(&first), &compiled).await.unwrap();
        assert!(text_of(&news, &second).unwrap() == large);
        let is_it = |n: &News| matches!(n, News::Policy { release, .. } if *release == second);
        let News::Policy { parcel, .. } = wait_for(&news, "the second", is_it) else { unreachable!() };
        assert!(parcel.image(7).unwrap() == large[1..] && parcel.text().unwrap() == large);
        assert_eq!(parcel.image(8), None, "another format");
        assert_eq!(desk.text(&second).await.unwrap(), large);
        assert_eq!(desk.history(10).await.unwrap(), [second.clone(), first.clone()]);

        // Who has not seen the second is told of it, and changes nothing.
        match desk.publish(Some(&first), &draft(0xc3, b"third")).await {
            Err(DeskError::Overtaken(by)) => assert_eq!(by, second),
            other => panic!("{other:?}"),
        }
        assert_eq!(desk.head().await.unwrap(), Some(second));

        let brake = Brake { by: "ann".into(), reason: "it refuses everybody".into(), left_ms: 60_000 };
        desk.set_brake(Some(&brake)).await.unwrap();
        wait_for(&news, "off", |n| matches!(n, News::Off { brake, .. } if brake.by == "ann"));
        assert!(desk.brake().await.unwrap().unwrap().left_ms <= 60_000);
        desk.set_brake(None).await.unwrap();
        wait_for(&news, "on", |n| *n == News::On);
    });
    drop(link);
}

#[test]
fn what_is_published_reaches_those_who_follow() {
    publish_and_follow(&Redis::start().unwrap().url());
}

#[test]
fn it_does_so_over_sentinels() {
    publish_and_follow(&Sentinel::start().unwrap().url());
}

#[test]
fn it_does_so_in_a_cluster() {
    publish_and_follow(&RedisCluster::start().unwrap().url());
}

/// A server that lost its data comes to the same number again.
#[test]
fn a_release_of_the_same_number_after_a_loss_is_another() {
    let redis = Redis::start().unwrap();
    let (_link, news) = follower(&redis.url(), 0);
    block_on(async {
        let desk = Desk::open(options(&redis.url())).await.unwrap();
        let first = desk.publish(None, &draft(0xa1, b"first")).await.unwrap();
        assert_eq!(text_of(&news, &first).unwrap(), b"first");
        redis.command(&["FLUSHALL"]).unwrap();
        let other = desk.publish(None, &draft(0xb2, b"other")).await.unwrap();
        assert_eq!(other.number, 1);
        assert_eq!(text_of(&news, &other).unwrap(), b"other");
    });
}

/// Of ten who saw the same release one publishes, and the others learn whose it was.
#[test]
fn of_many_who_publish_at_once_one_does() {
    let redis = Redis::start().unwrap();
    let url = redis.url();
    let publish = |n: u64| {
        let url = url.clone();
        std::thread::spawn(move || {
            block_on(async {
                let text = n.to_string();
                Desk::open(options(&url)).await.unwrap().publish(None, &draft(n, text.as_bytes())).await
            })
        })
    };
    let all: Vec<_> = (1..=10).map(publish).collect();
    let (done, refused): (Vec<_>, Vec<_>) =
        all.into_iter().map(|thread| thread.join().unwrap()).partition(Result::is_ok);
    let done: Vec<Release> = done.into_iter().flatten().collect();
    assert_eq!((done.len(), refused.len()), (1, 9));
    for error in refused.into_iter().filter_map(Result::err) {
        assert!(matches!(&error, DeskError::Overtaken(by) if *by == done[0]), "{error}");
    }
    // What nothing refers to goes by itself; what is in force does not.
    for n in 1..=10 {
        let key = format!("{PREFIX}:{{*policy}}:text:{n:016x}");
        let ttl = redis.command(&["TTL", &key]).unwrap();
        assert_eq!(ttl == "-1", n == done[0].version, "{n}: {ttl}");
    }
}

#[test]
fn old_texts_go_and_the_history_stays() {
    let redis = Redis::start().unwrap();
    block_on(async {
        let desk = Desk::open(options(&redis.url())).await.unwrap();
        let mut last = None;
        for n in 0..23 {
            // The first text is published again as the last but one: it must stay.
            let version = if n == 21 { 1 } else { n + 1 };
            let text = version.to_string();
            last = Some(desk.publish(last.as_ref(), &draft(version, text.as_bytes())).await.unwrap());
        }
        let history = desk.history(100).await.unwrap();
        assert_eq!(history.len(), 23);
        let ttl = |version: u64| {
            redis.command(&["TTL", &format!("{PREFIX}:{{*policy}}:text:{version:016x}")]).unwrap()
        };
        assert_eq!((ttl(1).as_str(), ttl(4).as_str()), ("-1", "-1"));
        assert!(ttl(2) != "-1" && ttl(3) != "-1", "{} {}", ttl(2), ttl(3));
    });
}

#[test]
fn only_the_image_in_force_is_kept() {
    let redis = Redis::start().unwrap();
    let ttl = |version: u64, format: u32| {
        redis.command(&["TTL", &format!("{PREFIX}:{{*policy}}:image:{version:016x}.{format}")]).unwrap()
    };
    block_on(async {
        let desk = Desk::open(options(&redis.url())).await.unwrap();
        let with = |version, format| Draft { image: Some((format, b"image")), ..draft(version, b"text") };
        let first = desk.publish(None, &with(1, 2)).await.unwrap();
        assert_eq!(ttl(1, 2), "-1");
        let second = desk.publish(Some(&first), &with(1, 2)).await.unwrap();
        assert_eq!(ttl(1, 2), "-1", "the same again");
        let third = desk.publish(Some(&second), &with(3, 2)).await.unwrap();
        assert_eq!((ttl(1, 2) != "-1", ttl(3, 2).as_str()), (true, "-1"));
        desk.publish(Some(&third), &draft(4, b"text")).await.unwrap();
        assert!(ttl(3, 2) != "-1", "an older weir, or a newer one, published the last");
    });
}

/// Its end of the way is the link's thread.
#[test]
fn a_parcel_of_a_link_that_is_closed_is_not_waited_for() {
    let redis = Redis::start().unwrap();
    let (link, news) = follower(&redis.url(), 0);
    let is_it = |n: &News| matches!(n, News::Policy { .. });
    block_on(async {
        let desk = Desk::open(options(&redis.url())).await.unwrap();
        desk.publish(None, &draft(1, b"text")).await.unwrap();
    });
    let News::Policy { parcel, .. } = wait_for(&news, "the release", is_it) else { unreachable!() };
    drop(link);
    assert_eq!(parcel.text(), None);
}

#[test]
fn what_a_gateway_cannot_read_is_told_and_fetched_no_further() {
    let redis = Redis::start().unwrap();
    let (_link, news) = follower(&redis.url(), 0xa1);
    block_on(async {
        let desk = Desk::open(options(&redis.url())).await.unwrap();
        let known = desk.publish(None, &draft(0xa1, b"known")).await.unwrap();
        wait_for(&news, "what is in force", |n| matches!(n, News::InForce { .. }));
        let new = Draft { schema: 2, ..draft(0xb2, b"new") };
        desk.publish(Some(&known), &new).await.unwrap();
        wait_for(&news, "too new", |n| matches!(n, News::TooNew { release } if release.schema == 2));
        let head = format!("{PREFIX}:{{*policy}}:head");
        redis.command(&["SET", &head, "x"]).unwrap();
        wait_for(&news, "trouble", |n| matches!(n, News::Trouble { why } if why.contains("can't be read")));
        // A text that claims to be endless takes no memory.
        let release = format!("{PREFIX}:{{*policy}}:release:2");
        redis.command(&["HSET", &release, "schema", "1", "bytes", "99999999999999"]).unwrap();
        redis.command(&["SET", &head, "2 00000000000000b3"]).unwrap();
        let is_it = |n: &News| matches!(n, News::Policy { .. });
        let News::Policy { parcel, .. } = wait_for(&news, "the release", is_it) else { unreachable!() };
        assert_eq!((parcel.text(), parcel.text()), (None, None));
        let is_told =
            |n: &News| matches!(n, News::Trouble { why } if why.contains("lost or not complete; publish"));
        wait_for(&news, "what is lost", is_told);
        assert_eq!(news.lock().unwrap().iter().filter(|n| is_told(n)).count(), 1, "it is told once");
    });
}
