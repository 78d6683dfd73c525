//! Topic Names and Topic Filters. Owns what makes one legal and how a filter matches; must never
//! know of queues or bindings. OASIS MQTT 5.0 chapters 4.7 and 4.8.2.
//!
//! Two rules differ from the specification, and one from RabbitMQ:
//!
//! | input | here | elsewhere |
//! |---|---|---|
//! | `a/#/z` in [`FilterMode::Flexible`] | `#` is zero or more levels anywhere | OASIS refuses |
//! | more than [`TOPIC_LEVELS_MAX`] or [`FILTER_LEVELS_MAX`] levels | refused | OASIS: 65,536 |
//! | `a#`, `a+b` as filters | refused in both modes | RabbitMQ takes them literally |

use crate::limits::{FILTER_LEVELS_MAX, MULTI_LEVEL_WILDCARDS_MAX, TOPIC_LEVELS_MAX};
use crate::violation::Violation;

pub mod translate;

/// A Topic Name: 1 to 65,535 bytes of UTF-8 without U+0000, `+` or `#`, of at most
/// [`TOPIC_LEVELS_MAX`] levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Checks a string that came as a topic name; `field` names it in the violation.
    ///
    /// # Errors
    /// [`Violation::TopicNameEmpty`] and what [`TopicName::check`] reports.
    pub fn parse(bytes: &'a [u8], field: &'static str) -> Result<Self, Violation> {
        // [MQTT-4.7.3-1]
        if bytes.is_empty() {
            return Err(Violation::TopicNameEmpty { field });
        }
        Self::check(bytes, field).map(Self)
    }

    /// Checks the bytes of a topic name that a Topic Alias may have left empty.
    ///
    /// # Errors
    /// [`Violation::StringNotUtf8`], [`Violation::StringHasNul`],
    /// [`Violation::TopicNameHasWildcard`], [`Violation::TopicLevelsTooMany`].
    // [MQTT-4.7.3-3]: a string of MQTT is no longer.
    pub fn check(bytes: &'a [u8], field: &'static str) -> Result<&'a str, Violation> {
        // [MQTT-1.5.4-1]
        let topic = std::str::from_utf8(bytes).map_err(|_| Violation::StringNotUtf8 { field })?;
        // One pass without branches, which the compiler turns into vector instructions.
        let (mut illegal, mut separators) = (false, 0_usize);
        for &byte in bytes {
            illegal |= (byte == 0) | (byte == b'+') | (byte == b'#');
            separators += usize::from((byte == b'/') | (byte == b'.'));
        }
        if illegal {
            // [MQTT-4.7.3-2]
            if bytes.contains(&0) {
                return Err(Violation::StringHasNul { field });
            }
            // [MQTT-3.3.2-2], [MQTT-4.7.0-1]
            return Err(Violation::TopicNameHasWildcard { field });
        }
        if separators >= TOPIC_LEVELS_MAX {
            let levels = separators + 1;
            return Err(Violation::TopicLevelsTooMany {
                field,
                levels,
                max: TOPIC_LEVELS_MAX,
            });
        }
        Ok(topic)
    }

    /// The text.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.0
    }
}

/// Where `#` may stand in a Topic Filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FilterMode {
    /// Any whole level, up to [`MULTI_LEVEL_WILDCARDS_MAX`] times, each standing for zero or more
    /// levels: what RabbitMQ's adapter takes.
    #[default]
    Flexible,
    /// The last level only ([MQTT-4.7.1-1]).
    Strict,
}

/// A Topic Filter that parsed: legal in its mode, the shared part split off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ParsedFilter<'a> {
    /// ShareName of a Shared Subscription, without `$share/`.
    pub share: Option<&'a str>,
    /// The filter that topics are matched against; never empty.
    pub filter: &'a str,
}

impl<'a> ParsedFilter<'a> {
    /// Parses a filter that is well-formed UTF-8 without U+0000, as SUBSCRIBE and UNSUBSCRIBE
    /// decode it.
    ///
    /// # Errors
    /// The variants of [`Violation`] whose Reason Code is Topic Filter invalid (0x8F).
    // 3.1.1 [MQTT-3.8.3-2]
    pub fn parse(text: &'a str, mode: FilterMode) -> Result<Self, Violation> {
        // [MQTT-4.8.2-1]
        let Some(shared) = text.strip_prefix(SHARE_PREFIX) else {
            check_filter(text, mode)?;
            return Ok(Self {
                share: None,
                filter: text,
            });
        };
        // [MQTT-4.8.2-2]
        let (share, filter) = shared
            .split_once('/')
            .ok_or(Violation::SharedFilterMissing)?;
        if share.is_empty() || share.contains(['+', '#']) {
            return Err(Violation::ShareNameInvalid);
        }
        if filter.is_empty() {
            return Err(Violation::SharedFilterMissing);
        }
        check_filter(filter, mode)?;
        Ok(Self {
            share: Some(share),
            filter,
        })
    }

    /// Whether a level of the filter is a wildcard.
    #[must_use]
    pub fn has_wildcards(&self) -> bool {
        // A legal filter has these characters as whole levels only.
        self.filter.contains(['+', '#'])
    }
}

/// Whether the filter asks for a Shared Subscription ([MQTT-4.8.2-1]), legal or not.
#[must_use]
pub fn is_shared(filter: &str) -> bool {
    filter.starts_with(SHARE_PREFIX)
}

const SHARE_PREFIX: &str = "$share/";

fn check_filter(filter: &str, mode: FilterMode) -> Result<(), Violation> {
    // [MQTT-4.7.3-1]
    if filter.is_empty() {
        return Err(Violation::TopicFilterEmpty);
    }
    let separators = filter.bytes().filter(|byte| matches!(byte, b'/' | b'.'));
    let levels = 1 + separators.count();
    if levels > FILTER_LEVELS_MAX {
        return Err(Violation::FilterLevelsTooMany {
            levels,
            max: FILTER_LEVELS_MAX,
        });
    }
    let last = filter.split('/').count() - 1;
    let mut count = 0;
    for (index, level) in filter.split('/').enumerate() {
        match level {
            "#" if mode == FilterMode::Strict && index != last => {
                // [MQTT-4.7.1-1]
                return Err(Violation::MultiLevelWildcardNotLast);
            }
            "#" => count += 1,
            "+" => {}
            // [MQTT-4.7.1-1], [MQTT-4.7.1-2]
            _ if level.contains(['+', '#']) => return Err(Violation::WildcardNotWholeLevel),
            _ => {}
        }
    }
    if count > MULTI_LEVEL_WILDCARDS_MAX {
        let max = MULTI_LEVEL_WILDCARDS_MAX;
        return Err(Violation::MultiLevelWildcardsTooMany { count, max });
    }
    Ok(())
}

/// Whether a filter (without `$share/group/`) matches a topic name: `+` is one level, `#` zero or
/// more, wherever it stands. A wildcard at the first level never matches a topic that starts with
/// `$`. At most filter levels × topic levels steps, whatever the filter.
#[must_use]
// [MQTT-4.7.3-4]
pub fn matches(filter: &str, topic: &str) -> bool {
    // [MQTT-4.7.2-1]
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut filter_levels = filter.split('/');
    let mut topic_levels = topic.split('/');
    // Where to go on when the rest fails: behind the last `#`, one more level given to it. Trying
    // an earlier `#` again cannot help, since the last one can take whatever that would free.
    let mut retry: Option<(std::str::Split<'_, char>, std::str::Split<'_, char>)> = None;
    loop {
        let before = topic_levels.clone();
        match (filter_levels.next(), topic_levels.next()) {
            (Some("#"), _) => {
                topic_levels = before;
                retry = Some((filter_levels.clone(), topic_levels.clone()));
                continue;
            }
            (None, None) => return true,
            (Some(level), Some(name)) if level == "+" || level == name => continue,
            _ => {}
        }
        let Some((filter_rest, topic_rest)) = retry.as_mut() else {
            return false;
        };
        if topic_rest.next().is_none() {
            return false;
        }
        filter_levels = filter_rest.clone();
        topic_levels = topic_rest.clone();
    }
}

#[cfg(test)]
mod tests;
