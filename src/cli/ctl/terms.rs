//! The table of `leveret ctl`, continued: policies, limits, parameters of vhosts, and what concerns
//! whole vhosts and users.
//!
//! Owns data only, as the first part does.

use super::commands::Arity::One;
use super::commands::{
    Choice, Flag, METADATA, Output, Spec, flags, in_vhost, listing, options, spec,
};

const POLICY: &[Choice] = &[
    Choice {
        short: None,
        long: "priority",
        argument: Some("priority"),
        default: Some("0"),
        about: "A whole number; of all that match, the policy with the highest applies",
    },
    Choice {
        short: None,
        long: "apply-to",
        argument: Some("apply_to"),
        default: Some("all"),
        about: "all, queues, classic_queues, quorum_queues, streams, qos0_queues or exchanges",
    },
];

const GLOBAL: &[Flag] = &[Flag {
    short: None,
    long: "global",
    argument: Some("global"),
    about: "Of all, not of one",
}];

const CLOSE_ALL: &[Choice] = &[
    Choice {
        short: None,
        long: "limit",
        argument: Some("limit"),
        default: Some("0"),
        about: "At most so many; 0 is all",
    },
    Choice {
        short: None,
        long: "per-connection-delay",
        argument: None,
        default: None,
        about: "Taken for RabbitMQ's sake, changes nothing: nobody waits for a connection's end",
    },
];

const OF_USER: &[Choice] = &[Choice {
    short: None,
    long: "user",
    argument: Some("user"),
    default: Some("guest"),
    about: "Whose",
}];

const POLICY_COLUMNS: &[&str] = &[
    "vhost",
    "name",
    "pattern",
    "apply-to",
    "definition",
    "priority",
];

const fn global(spec: Spec, banner: &'static str) -> Spec {
    Spec {
        global_banner: banner,
        ..flags(spec, GLOBAL)
    }
}

/// The commands, in the order of the help.
pub(super) const TERMS: &[Spec] = &[
    options(
        spec(
            "update_vhost_metadata",
            "Says something else about a virtual host",
            &[("name", One)],
            "Updating metadata of vhost \"{name}\" ...",
            Output::Nothing,
        ),
        METADATA,
    ),
    spec(
        "enable_vhost_deletion_protection",
        "Keeps a virtual host from being deleted",
        &[("name", One)],
        "Protecting virtual host \"{name}\" from removal by updating its metadata...",
        Output::Nothing,
    ),
    spec(
        "disable_vhost_deletion_protection",
        "Lets a virtual host be deleted again",
        &[("name", One)],
        "Removing deletion protection from virtual host \"{name}\" by updating its metadata...",
        Output::Nothing,
    ),
    options(
        in_vhost(spec(
            "set_policy",
            "Sets terms for all queues and exchanges whose names match a pattern",
            &[("name", One), ("pattern", One), ("definition", One)],
            "Setting policy \"{name}\" for pattern \"{pattern}\" to \"{definition}\" with \
             priority \"{priority}\" for vhost \"{vhost}\" ...",
            Output::Nothing,
        )),
        POLICY,
    ),
    in_vhost(spec(
        "clear_policy",
        "Takes a policy away",
        &[("name", One)],
        "Clearing policy \"{name}\" on vhost \"{vhost}\" ...",
        Output::Nothing,
    )),
    in_vhost(spec(
        "list_policies",
        "Lists policies",
        &[],
        "Listing policies for vhost \"{vhost}\" ...",
        listing(POLICY_COLUMNS, &[]),
    )),
    options(
        in_vhost(spec(
            "set_operator_policy",
            "Sets bounds that no argument and no policy exceeds",
            &[("name", One), ("pattern", One), ("definition", One)],
            "Setting operator policy override \"{name}\" for pattern \"{pattern}\" to \
             \"{definition}\" with priority \"{priority}\" for vhost \"{vhost}\" ...",
            Output::Nothing,
        )),
        POLICY,
    ),
    in_vhost(spec(
        "clear_operator_policy",
        "Takes an operator policy away",
        &[("name", One)],
        "Clearing operator policy \"{name}\" on vhost \"{vhost}\" ...",
        Output::Nothing,
    )),
    in_vhost(spec(
        "list_operator_policies",
        "Lists operator policies",
        &[],
        "Listing operator policy overrides for vhost \"{vhost}\" ...",
        listing(POLICY_COLUMNS, &[]),
    )),
    in_vhost(spec(
        "set_vhost_limits",
        "Sets max-connections and max-queues of a virtual host",
        &[("definition", One)],
        "Setting vhost limits to \"{definition}\" for vhost \"{vhost}\" ...",
        Output::Nothing,
    )),
    in_vhost(spec(
        "clear_vhost_limits",
        "Takes a virtual host's limits away",
        &[],
        "Clearing vhost \"{vhost}\" limits ...",
        Output::Nothing,
    )),
    global(
        in_vhost(spec(
            "list_vhost_limits",
            "Tells a virtual host's limits, or those of all",
            &[],
            "Listing limits for vhost \"{vhost}\" ...",
            Output::TextOrListing("{limits}", &["vhost", "limits"]),
        )),
        "Listing limits for all vhosts ...",
    ),
    spec(
        "set_user_limits",
        "Sets max-connections and max-channels of a user",
        &[("username", One), ("definition", One)],
        "Setting user limits to \"{definition}\" for user \"{username}\" ...",
        Output::Nothing,
    ),
    Spec {
        global_banner: "Clearing all limits for user \"{username}\" ...",
        ..spec(
            "clear_user_limits",
            "Takes one of a user's limits away, or all",
            &[("username", One), ("limit", One)],
            "Clearing \"{limit}\" limit for user \"{username}\" ...",
            Output::Nothing,
        )
    },
    options(
        global(
            spec(
                "list_user_limits",
                "Tells a user's limits, or those of all",
                &[],
                "Listing limits for user \"{user}\" ...",
                Output::TextOrListing("{limits}", &["user", "limits"]),
            ),
            "Listing limits for all users ...",
        ),
        OF_USER,
    ),
    in_vhost(spec(
        "set_parameter",
        "Sets a runtime parameter of a virtual host: its limits, or an operator policy",
        &[("component", One), ("name", One), ("value", One)],
        "Setting runtime parameter \"{name}\" for component \"{component}\" to \"{value}\" in \
         vhost \"{vhost}\" ...",
        Output::Nothing,
    )),
    in_vhost(spec(
        "clear_parameter",
        "Removes a runtime parameter of a virtual host",
        &[("component", One), ("name", One)],
        "Clearing runtime parameter \"{name}\" for component \"{component}\" on vhost \
         \"{vhost}\" ...",
        Output::Nothing,
    )),
    in_vhost(spec(
        "list_parameters",
        "Lists runtime parameters of a virtual host",
        &[],
        "Listing runtime parameters for vhost \"{vhost}\" ...",
        listing(&["component", "name", "value"], &[]),
    )),
    options(
        global(
            in_vhost(spec(
                "close_all_connections",
                "Closes the connections of a virtual host, or all, of both protocols",
                &[("reason", One)],
                "Closing all connections in vhost {vhost}, reason: {reason}...",
                Output::Text("Closed {closed} connections"),
            )),
            "Closing all connections to node {node} (across all vhosts), reason: {reason}...",
        ),
        CLOSE_ALL,
    ),
    spec(
        "list_losses",
        "Lists how many messages were dropped, by virtual host, reason and QoS",
        &[],
        "Listing dropped messages ...",
        listing(&["vhost", "reason", "qos", "count"], &[]),
    ),
    spec(
        "close_all_user_connections",
        "Closes a user's connections, of both protocols",
        &[("username", One), ("reason", One)],
        "Closing connections of user {username}, reason: {reason}...",
        Output::Nothing,
    ),
];
