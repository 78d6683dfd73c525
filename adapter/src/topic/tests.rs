//! Tests of topic names, filters and matching.

use super::*;

#[test]
fn mqtt_4_7_3_topic_names() {
    // [MQTT-4.7.0-1], [MQTT-4.7.3-1], [MQTT-4.7.3-2]
    let field = "topic name";
    let deep = "/".repeat(TOPIC_LEVELS_MAX);
    let most = "/".repeat(TOPIC_LEVELS_MAX - 1);
    let levels = TOPIC_LEVELS_MAX + 1;
    let rows: [(&[u8], Option<Violation>); 14] = [
        (b"a", None),
        (b"/", None),
        (b"/a", None),
        (b"a//b/", None),
        (b"$SYS/x", None),
        (b"a.b*c d", None),
        ("\u{1F980}/\u{e9}".as_bytes(), None),
        (most.as_bytes(), None),
        (b"", Some(Violation::TopicNameEmpty { field })),
        (b"a/+", Some(Violation::TopicNameHasWildcard { field })),
        (b"a#", Some(Violation::TopicNameHasWildcard { field })),
        (b"a\0", Some(Violation::StringHasNul { field })),
        (b"\xC0\x80", Some(Violation::StringNotUtf8 { field })),
        (
            deep.as_bytes(),
            Some(Violation::TopicLevelsTooMany {
                field,
                levels,
                max: TOPIC_LEVELS_MAX,
            }),
        ),
    ];
    for (bytes, expect) in rows {
        assert_eq!(TopicName::parse(bytes, field).err(), expect, "{bytes:?}");
    }
}

#[test]
fn mqtt_4_7_1_filters_in_both_modes() {
    // [MQTT-4.7.1-1] is `#`, [MQTT-4.7.1-2] is `+`.
    use Violation as V;
    let many = V::MultiLevelWildcardsTooMany { count: 3, max: 2 };
    // Filter, flexible, strict.
    let rows: [(&str, Option<V>, Option<V>); 19] = [
        ("a", None, None),
        ("/", None, None),
        ("#", None, None),
        ("+", None, None),
        ("+/+", None, None),
        ("/+/#", None, None),
        ("a/#", None, None),
        ("$SYS/#", None, None),
        ("$share", None, None),
        ("a b/*/c.d", None, None),
        ("a/#/z", None, Some(V::MultiLevelWildcardNotLast)),
        ("#/a/#", None, Some(V::MultiLevelWildcardNotLast)),
        ("#/#/#", Some(many), Some(V::MultiLevelWildcardNotLast)),
        ("", Some(V::TopicFilterEmpty), Some(V::TopicFilterEmpty)),
        (
            "a#",
            Some(V::WildcardNotWholeLevel),
            Some(V::WildcardNotWholeLevel),
        ),
        (
            "a/b#",
            Some(V::WildcardNotWholeLevel),
            Some(V::WildcardNotWholeLevel),
        ),
        (
            "a+b/c",
            Some(V::WildcardNotWholeLevel),
            Some(V::WildcardNotWholeLevel),
        ),
        (
            "+a",
            Some(V::WildcardNotWholeLevel),
            Some(V::WildcardNotWholeLevel),
        ),
        (
            "a/##",
            Some(V::WildcardNotWholeLevel),
            Some(V::WildcardNotWholeLevel),
        ),
    ];
    for (filter, flexible, strict) in rows {
        let got = |mode| ParsedFilter::parse(filter, mode).err();
        assert_eq!(got(FilterMode::Flexible), flexible, "{filter:?}");
        assert_eq!(got(FilterMode::Strict), strict, "{filter:?}");
    }
    let deep = "/".repeat(FILTER_LEVELS_MAX);
    let (levels, max) = (FILTER_LEVELS_MAX + 1, FILTER_LEVELS_MAX);
    let got = ParsedFilter::parse(&deep, FilterMode::Flexible);
    assert_eq!(got, Err(V::FilterLevelsTooMany { levels, max }));
}

#[test]
fn mqtt_4_8_2_shared_filters() {
    // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
    use Violation as V;
    type Row<'a> = (&'a str, Result<(Option<&'a str>, &'a str), Violation>);
    let rows: [Row<'_>; 12] = [
        ("$share/g/a/+", Ok((Some("g"), "a/+"))),
        ("$share/g//", Ok((Some("g"), "/"))),
        ("$share/g/#", Ok((Some("g"), "#"))),
        ("$share/g.h*/$SYS/x", Ok((Some("g.h*"), "$SYS/x"))),
        ("$shared/g/a", Ok((None, "$shared/g/a"))),
        ("$share//a", Err(V::ShareNameInvalid)),
        ("$share/+/a", Err(V::ShareNameInvalid)),
        ("$share/g#/a", Err(V::ShareNameInvalid)),
        ("$share/g", Err(V::SharedFilterMissing)),
        ("$share/", Err(V::SharedFilterMissing)),
        ("$share/g/", Err(V::SharedFilterMissing)),
        ("$share/g/a#", Err(V::WildcardNotWholeLevel)),
    ];
    for (text, expect) in rows {
        let expect = expect.map(|(share, filter)| ParsedFilter { share, filter });
        assert_eq!(
            ParsedFilter::parse(text, FilterMode::Flexible),
            expect,
            "{text:?}"
        );
    }
}

const MATCHES: [(&str, &str, bool); 40] = [
    ("a", "a", true),
    ("a", "A", false), // MQTT 5.0 §4.7.3: case sensitive
    ("a", "a/", false),
    ("a/b", "a/b", true),
    ("a.b", "a/b", false),
    ("+", "a", true),
    ("+", "/a", false),
    ("/+", "/a", true),
    ("+/+", "/a", true),
    ("+/+", "a", false),
    ("a/+", "a/", true),
    ("a/+", "a", false),
    ("a/+/b", "a//b", true),
    ("a//b", "a//b", true),
    ("a//b", "a/b", false),
    ("sport/#", "sport", true), // MQTT 5.0 §4.7.1.2
    ("sport/#", "sport/", true),
    ("sport/#", "sport/tennis/player1", true),
    ("sport/#", "sports", false),
    ("sport/+/player1", "sport/tennis/player1", true),
    ("sport/tennis/+", "sport/tennis/player1/ranking", false),
    ("#", "a/b/c", true),
    ("#", "/", true),
    ("+/#", "a", true),
    ("/#", "a", false),
    ("/#", "/a", true),
    ("a/#/z", "a/z", true),
    ("a/#/z", "a/b/z", true),
    ("a/#/z", "a/b/c/z/z", true),
    ("a/#/z", "a/b/z/c", false),
    ("a/#/z", "az", false),
    ("#/z", "z", true),
    ("#/b/#", "a/b/c", true),
    ("#/b/+/#", "b/b", true),
    ("#/b/#", "a/c", false),
    ("#", "$SYS/x", false), // [MQTT-4.7.2-1]
    ("+/x", "$SYS/x", false),
    ("#/x", "$SYS/x", false),
    ("$SYS/#", "$SYS/x", true),
    ("$SYS/+", "$SYS/x", true),
];

#[test]
fn mqtt_4_7_matching() {
    for (filter, topic, expect) in MATCHES {
        assert_eq!(matches(filter, topic), expect, "{filter:?} {topic:?}");
    }
}

#[test]
fn matching_equals_the_naive_definition() {
    fn naive(filter: &[&str], topic: &[&str]) -> bool {
        match (filter.split_first(), topic.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => (0..=topic.len()).any(|cut| naive(rest, &topic[cut..])),
            (Some((level, rest)), Some((name, names))) => {
                (*level == "+" || level == name) && naive(rest, names)
            }
            _ => false,
        }
    }
    let words = |alphabet: &[&'static str], mut number: usize| {
        let mut levels = Vec::new();
        while number > 0 {
            levels.push(alphabet[number % alphabet.len()]);
            number /= alphabet.len();
        }
        levels
    };
    for f in 1..1024 {
        let filter = words(&["a", "b", "+", "#"], f);
        for t in 1..81 {
            let topic = words(&["a", "b", ""], t);
            let got = matches(&filter.join("/"), &topic.join("/"));
            assert_eq!(got, naive(&filter, &topic), "{filter:?} {topic:?}");
        }
    }
}

#[test]
fn many_wildcards_stay_cheap() {
    let filter = ["#/a/"; 300].concat() + "b";
    let topic = ["a/"; 1000].concat();
    assert!(!matches(&filter, &topic));
}
