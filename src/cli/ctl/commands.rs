//! The table of `leveret ctl`: RabbitMQ's names, arguments, banners and results.
//!
//! Owns data only. A placeholder `{x}` stands for argument `x`, or for member `x` of the answer.

use super::columns as c;

/// One command.
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) positionals: &'static [(&'static str, Arity)],
    pub(super) flags: &'static [Flag],
    pub(super) options: &'static [Choice],
    /// Whether the vhost of `-p` goes with it.
    pub(super) in_vhost: bool,
    /// Said before anything is done.
    pub(super) banner: &'static str,
    /// Said instead of the banner where `--global` stands.
    pub(super) global_banner: &'static str,
    pub(super) output: Output,
}

/// How many words a positional argument takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Arity {
    One,
    Optional,
    Many,
    /// One; or this word, and then one under its name.
    OneOr(&'static str),
    /// One, or a line of standard input if it is not there.
    Password,
}

/// A switch of one command.
pub(super) struct Flag {
    pub(super) short: Option<char>,
    pub(super) long: &'static str,
    /// The argument that it makes true; none for what is taken for RabbitMQ's sake only.
    pub(super) argument: Option<&'static str>,
    pub(super) about: &'static str,
}

/// An option of one command that takes a value.
pub(super) struct Choice {
    pub(super) short: Option<char>,
    pub(super) long: &'static str,
    /// The argument that it is; none for what is taken for RabbitMQ's sake only.
    pub(super) argument: Option<&'static str>,
    /// What it is if nothing is said.
    pub(super) default: Option<&'static str>,
    pub(super) about: &'static str,
}

/// What comes out.
pub(super) enum Output {
    Nothing,
    /// A sentence.
    Text(&'static str),
    /// A sentence that quiet scripts do not want.
    Hint(&'static str),
    Listing(Listing),
    /// A sentence, or a listing with these columns where `--global` stands.
    TextOrListing(&'static str, &'static [&'static str]),
    Status,
}

/// Columns of a listing.
pub(super) struct Listing {
    /// What is shown if no column is named.
    pub(super) default: &'static [&'static str],
    /// What may be named; nothing if the columns are fixed.
    pub(super) all: &'static [&'static str],
    /// Whether RabbitMQ tells the timeout first.
    pub(super) tells_timeout: bool,
}

pub(super) const fn listing(
    default: &'static [&'static str],
    all: &'static [&'static str],
) -> Output {
    Output::Listing(Listing {
        default,
        all,
        tells_timeout: false,
    })
}

pub(super) const fn spec(
    name: &'static str,
    about: &'static str,
    positionals: &'static [(&'static str, Arity)],
    banner: &'static str,
    output: Output,
) -> Spec {
    Spec {
        name,
        about,
        positionals,
        flags: &[],
        options: &[],
        in_vhost: false,
        banner,
        global_banner: "",
        output,
    }
}

pub(super) const fn in_vhost(spec: Spec) -> Spec {
    Spec {
        in_vhost: true,
        ..spec
    }
}

pub(super) const fn options(spec: Spec, options: &'static [Choice]) -> Spec {
    Spec { options, ..spec }
}

pub(super) const fn flags(spec: Spec, flags: &'static [Flag]) -> Spec {
    Spec { flags, ..spec }
}

use Arity::{Many, One, OneOr, Optional, Password};

const USER: (&str, Arity) = ("username", One);

const PRE_HASHED: &[Flag] = &[Flag {
    short: None,
    long: "pre-hashed-password",
    argument: Some("pre_hashed"),
    about: "The password is a hash: RabbitMQ's SHA-256 in base64, or an argon2id PHC string",
}];

const DELETE_QUEUE: &[Flag] = &[
    Flag {
        short: Some('e'),
        long: "if-empty",
        argument: Some("if_empty"),
        about: "Only if it has no messages ready for delivery",
    },
    Flag {
        short: Some('u'),
        long: "if-unused",
        argument: Some("if_unused"),
        about: "Only if it has no consumers",
    },
    Flag {
        short: None,
        long: "force",
        argument: None,
        about: "Taken for RabbitMQ's sake, changes nothing: there is no queue out of reach",
    },
];

pub(super) const METADATA: &[Choice] = &[
    Choice {
        short: Some('d'),
        long: "description",
        argument: Some("description"),
        default: None,
        about: "For people",
    },
    Choice {
        short: None,
        long: "tags",
        argument: Some("tags"),
        default: None,
        about: "Between commas",
    },
    Choice {
        short: None,
        long: "default-queue-type",
        argument: Some("default_queue_type"),
        default: None,
        about: "What clients get who do not say: quorum, classic or stream",
    },
];

const ONE_NODE: &str = "Taken for RabbitMQ's sake, changes nothing: all queues are on this node";

const WHICH_QUEUES: &[Flag] = &[
    Flag {
        short: None,
        long: "online",
        argument: None,
        about: ONE_NODE,
    },
    Flag {
        short: None,
        long: "offline",
        argument: Some("offline"),
        about: "Lists none: queues are there as long as this node is",
    },
    Flag {
        short: None,
        long: "local",
        argument: None,
        about: ONE_NODE,
    },
];

const VERBOSE: &[Flag] = &[Flag {
    short: Some('V'),
    long: "verbose",
    argument: None,
    about: "All columns",
}];

const ADDED: &str = "Done. Don't forget to grant the user permissions to some virtual hosts! See \
                     '{program} help set_permissions' to learn more.";

const LIST_QUEUES: Spec = Spec {
    output: Output::Listing(Listing {
        default: &["name", "messages"],
        all: c::QUEUE,
        tells_timeout: true,
    }),
    ..flags(
        in_vhost(spec(
            "list_queues",
            "Lists queues",
            &[("columns", Many)],
            "Listing queues for vhost {vhost} ...",
            Output::Nothing,
        )),
        WHICH_QUEUES,
    )
};

/// All commands, in the order of the help.
pub(super) const COMMANDS: &[Spec] = &[
    spec("status", "Tells about the node", &[], "", Output::Status),
    flags(
        spec(
            "add_user",
            "Creates a user",
            &[USER, ("password", Password)],
            "Adding user \"{username}\" ...",
            Output::Hint(ADDED),
        ),
        PRE_HASHED,
    ),
    spec(
        "delete_user",
        "Deletes a user with all permissions",
        &[USER],
        "Deleting user \"{username}\" ...",
        Output::Nothing,
    ),
    flags(
        spec(
            "change_password",
            "Changes a user's password",
            &[USER, ("password", Password)],
            "Changing password for user \"{username}\" ...",
            Output::Nothing,
        ),
        PRE_HASHED,
    ),
    spec(
        "authenticate_user",
        "Tells whether a password is a user's",
        &[USER, ("password", Password)],
        "Authenticating user \"{username}\" ...",
        Output::Text("Success"),
    ),
    spec(
        "clear_password",
        "Takes a user's password away: nobody logs in with one any more",
        &[USER],
        "Clearing password for user \"{username}\" ...",
        Output::Nothing,
    ),
    spec(
        "hash_password",
        "Tells what add_user --pre-hashed-password takes",
        &[("password", Password)],
        "Will hash[ password {password}]",
        Output::Text("{hash}"),
    ),
    spec(
        "set_user_tags",
        "Replaces a user's tags",
        &[USER, ("tags", Many)],
        "Setting tags for user \"{username}\" to [{tags}] ...",
        Output::Nothing,
    ),
    spec(
        "list_users",
        "Lists users",
        &[],
        "Listing users ...",
        listing(&["user", "tags"], &[]),
    ),
    options(
        spec(
            "add_vhost",
            "Creates a virtual host",
            &[("name", One)],
            "Adding vhost \"{name}\" ...",
            Output::Nothing,
        ),
        METADATA,
    ),
    spec(
        "delete_vhost",
        "Deletes a virtual host with all that is in it",
        &[("name", One)],
        "Deleting vhost \"{name}\" ...",
        Output::Nothing,
    ),
    spec(
        "list_vhosts",
        "Lists virtual hosts",
        &[("columns", Many)],
        "Listing vhosts ...",
        listing(&["name"], c::VHOST),
    ),
    in_vhost(spec(
        "set_permissions",
        "Sets what a user may configure, write and read in a vhost",
        &[USER, ("configure", One), ("write", One), ("read", One)],
        "Setting permissions for user \"{username}\" in vhost \"{vhost}\" ...",
        Output::Nothing,
    )),
    in_vhost(spec(
        "clear_permissions",
        "Takes a user's permissions in a vhost away",
        &[USER],
        "Clearing permissions for user \"{username}\" in vhost \"{vhost}\" ...",
        Output::Nothing,
    )),
    in_vhost(spec(
        "list_permissions",
        "Lists permissions in a vhost",
        &[],
        "Listing permissions for vhost \"{vhost}\" ...",
        listing(&["user", "configure", "write", "read"], &[]),
    )),
    spec(
        "list_user_permissions",
        "Lists a user's permissions in all vhosts",
        &[USER],
        "Listing permissions for user \"{username}\" ...",
        listing(&["vhost", "configure", "write", "read"], &[]),
    ),
    in_vhost(spec(
        "set_topic_permissions",
        "Sets under which topics of an exchange a user may publish and subscribe",
        &[USER, ("exchange", One), ("write", One), ("read", One)],
        "Setting topic permissions on \"{exchange}\" for user \"{username}\" in vhost \
         \"{vhost}\" ...",
        Output::Nothing,
    )),
    in_vhost(spec(
        "clear_topic_permissions",
        "Takes a user's topic permissions away, on one exchange or on all",
        &[USER, ("exchange", Optional)],
        "Clearing topic permissions[ on \"{exchange}\"] for user \"{username}\" in vhost \
         \"{vhost}\" ...",
        Output::Nothing,
    )),
    in_vhost(spec(
        "list_topic_permissions",
        "Lists topic permissions in a vhost",
        &[],
        "Listing topic permissions for vhost \"{vhost}\" ...",
        listing(&["user", "exchange", "write", "read"], &[]),
    )),
    spec(
        "list_user_topic_permissions",
        "Lists a user's topic permissions in all vhosts",
        &[USER],
        "Listing topic permissions for user \"{username}\" ...",
        listing(&["vhost", "exchange", "write", "read"], &[]),
    ),
    spec(
        "set_global_parameter",
        "Sets a global runtime parameter such as mqtt_port_to_vhost_mapping",
        &[("name", One), ("value", One)],
        "Setting global runtime parameter \"{name}\" to \"{value}\" ...",
        Output::Nothing,
    ),
    spec(
        "clear_global_parameter",
        "Removes a global runtime parameter",
        &[("name", One)],
        "Clearing global runtime parameter \"{name}\" ...",
        Output::Nothing,
    ),
    spec(
        "list_global_parameters",
        "Lists global runtime parameters",
        &[],
        "Listing global runtime parameters ...",
        listing(&["name", "value"], &[]),
    ),
    LIST_QUEUES,
    in_vhost(spec(
        "list_exchanges",
        "Lists exchanges",
        &[("columns", Many)],
        "Listing exchanges for vhost {vhost} ...",
        listing(&["name", "type"], c::EXCHANGE),
    )),
    in_vhost(spec(
        "list_bindings",
        "Lists bindings",
        &[("columns", Many)],
        "Listing bindings for vhost {vhost}...",
        listing(c::BINDING, c::BINDING),
    )),
    spec(
        "list_connections",
        "Lists AMQP 0-9-1 connections; for those of MQTT see list_mqtt_connections",
        &[("columns", Many)],
        "Listing connections ...",
        listing(&["user", "peer_host", "peer_port", "state"], c::CONNECTION),
    ),
    flags(
        spec(
            "list_mqtt_connections",
            "Lists MQTT connections",
            &[("columns", Many)],
            "Listing MQTT connections ...",
            listing(&["client_id", "conn_name"], c::MQTT_CONNECTION),
        ),
        VERBOSE,
    ),
    spec(
        "list_channels",
        "Lists channels of AMQP 0-9-1 connections",
        &[("columns", Many)],
        "Listing channels ...",
        listing(c::CHANNEL_DEFAULT, c::CHANNEL),
    ),
    in_vhost(spec(
        "list_consumers",
        "Lists consumers",
        &[("columns", Many)],
        "Listing consumers in vhost {vhost} ...",
        listing(c::CONSUMER_DEFAULT, c::CONSUMER),
    )),
    spec(
        "close_connection",
        "Closes a connection, named by its pid or its name",
        &[("connection", One), ("reason", One)],
        "Closing connection {connection}, reason: {reason}...",
        Output::Nothing,
    ),
    spec(
        "set_vm_memory_high_watermark",
        "Sets the memory above which publishers are blocked: FRACTION, or absolute SIZE",
        &[("fraction", OneOr("absolute"))],
        "Setting memory threshold on {node}[ to {fraction}][ to {absolute} bytes] ...",
        Output::Nothing,
    ),
    spec(
        "set_disk_free_limit",
        "Sets the free disk below which publishers are blocked: SIZE, or mem_relative NUMBER",
        &[("limit", OneOr("mem_relative"))],
        "Setting disk free limit on {node}[ to {limit} bytes][ to {mem_relative} times the total \
         RAM] ...",
        Output::Nothing,
    ),
    spec(
        "alarms",
        "Lists the alarms that are set: RabbitMQ's rabbitmq-diagnostics alarms",
        &[],
        "Asking node {node} to report any known resource alarms ...",
        Output::Text("{message}"),
    ),
    spec(
        "check_alarms",
        "Fails while an alarm is set: RabbitMQ's rabbitmq-diagnostics check_alarms",
        &[],
        "Asking node {node} to report any local resource alarms ...",
        Output::Text("{message}"),
    ),
    in_vhost(spec(
        "purge_queue",
        "Drops the messages of a queue that are ready for delivery",
        &[("queue", One)],
        "Purging queue '{queue}' in vhost '{vhost}' ...",
        Output::Nothing,
    )),
    flags(
        in_vhost(spec(
            "delete_queue",
            "Deletes a queue",
            &[("queue", One)],
            "Deleting queue '{queue}' on vhost '{vhost}' ...",
            Output::Text("Queue was successfully deleted with {messages} ready messages"),
        )),
        DELETE_QUEUE,
    ),
];
