//! The table of all methods, by who may send them and then in the specification's order, and what
//! is made of it: a struct for each method, [`ClientMethod`] and [`ServerMethod`].
//!
//! Owns the facts about each method: ids, name, direction, arguments in wire order. Bits are
//! `bool`, octet to long-long are `u8` to `u64`, short strings are `&str`.
//! AMQP 0-9-1, classes of the specification.

use leveret_core::field::RawTable;

use super::wire::{Field, LongString, Reader, Writer};
use super::{Malformation, MethodError, MethodId};
use crate::frame::{self, FrameKind};

macro_rules! methods {
    (
        client { $($client:tt)* }
        server { $($server:tt)* }
        both { $($both:tt)* }
    ) => {
        structs! { $($client)* $($server)* $($both)* }
        direction! {
            /// A method that a client may send.
            ClientMethod, not ServerMethod: $($client)* $($both)*
        }
        direction! {
            /// A method that a server may send.
            ServerMethod, not ClientMethod: $($server)* $($both)*
        }
    };
}

macro_rules! structs {
    ($(
        $method:ident $(<$life:lifetime>)? $class_id:literal $method_id:literal $name:literal
        { $($field:ident: $type:ty),* }
    )*) => {$(
        #[doc = concat!("The arguments of `", $name, "`.")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $method $(<$life>)? {
            $(
                #[doc = concat!("`", stringify!($field), "`, as the specification has it.")]
                pub $field: $type,
            )*
        }

        impl $(<$life>)? $method $(<$life>)? {
            /// Class-id and method-id.
            pub const ID: MethodId = MethodId { class: $class_id, method: $method_id };
        }
    )*};
}

macro_rules! direction {
    (
        $(#[$doc:meta])*
        $direction:ident, not $other:ident: $(
            $method:ident $(<$life:lifetime>)? $class_id:literal $method_id:literal $name:literal
            { $($field:ident: $type:ty),* }
        )*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $direction<'a> {
            $(
                #[doc = concat!("`", $name, "`.")]
                $method($method $(<$life>)?),
            )*
        }

        impl<'a> $direction<'a> {
            /// The ids of all methods of this direction.
            pub const IDS: &'static [MethodId] = &[$($method::ID),*];

            /// Class-id and method-id.
            pub const fn id(&self) -> MethodId {
                match self {
                    $(Self::$method(_) => $method::ID,)*
                }
            }

            /// The name as the specification writes it, such as `basic.publish`.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$method(_) => $name,)*
                }
            }

            /// Appends the method frame.
            pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
                frame::with_payload(out, FrameKind::Method, channel, |out| {
                    let mut writer = Writer::new(out);
                    writer.put(&self.id().to_be_bytes());
                    match self {
                        $(Self::$method($method { $($field),* }) => {
                            $(Field::write(*$field, &mut writer);)*
                        })*
                    }
                });
            }

            pub(super) fn decode_any(payload: &'a [u8]) -> Result<Self, MethodError> {
                let Some((&[c0, c1, m0, m1], arguments)) = payload.split_first_chunk() else {
                    let (id, reason) = (MethodId::default(), Malformation::Truncated);
                    return Err(MethodError::Malformed { id, reason });
                };
                let class = u16::from_be_bytes([c0, c1]);
                let id = MethodId { class, method: u16::from_be_bytes([m0, m1]) };
                match Self::read(id, Reader::new(arguments)) {
                    Ok(Some(method)) => Ok(method),
                    Ok(None) if $other::IDS.contains(&id) => {
                        Err(MethodError::WrongDirection { id })
                    }
                    Ok(None) => Err(MethodError::Unknown { id }),
                    Err(reason) => Err(MethodError::Malformed { id, reason }),
                }
            }

            fn read(id: MethodId, mut reader: Reader<'a>) -> Result<Option<Self>, Malformation> {
                let method = match (id.class, id.method) {
                    $(($class_id, $method_id) => Self::$method($method {
                        $($field: Field::read(&mut reader)?),*
                    }),)*
                    _ => return Ok(None),
                };
                reader.finish()?;
                Ok(Some(method))
            }
        }
    };
}

methods! {
    client {
        ConnectionStartOk<'a> 10 11 "connection.start-ok" {
            client_properties: RawTable<'a>, mechanism: &'a str, response: LongString<'a>,
            locale: &'a str
        }
        ConnectionSecureOk<'a> 10 21 "connection.secure-ok" { response: LongString<'a> }
        ConnectionTuneOk 10 31 "connection.tune-ok" {
            channel_max: u16, frame_max: u32, heartbeat: u16
        }
        ConnectionOpen<'a> 10 40 "connection.open" {
            virtual_host: &'a str, capabilities: &'a str, insist: bool
        }
        ConnectionUpdateSecret<'a> 10 70 "connection.update-secret" {
            new_secret: LongString<'a>, reason: &'a str
        }

        ChannelOpen<'a> 20 10 "channel.open" { out_of_band: &'a str }

        AccessRequest<'a> 30 10 "access.request" {
            realm: &'a str, exclusive: bool, passive: bool, active: bool, write: bool, read: bool
        }

        ExchangeDeclare<'a> 40 10 "exchange.declare" {
            ticket: u16, exchange: &'a str, type_: &'a str, passive: bool, durable: bool,
            auto_delete: bool, internal: bool, no_wait: bool, arguments: RawTable<'a>
        }
        ExchangeDelete<'a> 40 20 "exchange.delete" {
            ticket: u16, exchange: &'a str, if_unused: bool, no_wait: bool
        }
        ExchangeBind<'a> 40 30 "exchange.bind" {
            ticket: u16, destination: &'a str, source: &'a str, routing_key: &'a str,
            no_wait: bool, arguments: RawTable<'a>
        }
        ExchangeUnbind<'a> 40 40 "exchange.unbind" {
            ticket: u16, destination: &'a str, source: &'a str, routing_key: &'a str,
            no_wait: bool, arguments: RawTable<'a>
        }

        QueueDeclare<'a> 50 10 "queue.declare" {
            ticket: u16, queue: &'a str, passive: bool, durable: bool, exclusive: bool,
            auto_delete: bool, no_wait: bool, arguments: RawTable<'a>
        }
        QueueBind<'a> 50 20 "queue.bind" {
            ticket: u16, queue: &'a str, exchange: &'a str, routing_key: &'a str, no_wait: bool,
            arguments: RawTable<'a>
        }
        QueuePurge<'a> 50 30 "queue.purge" { ticket: u16, queue: &'a str, no_wait: bool }
        QueueDelete<'a> 50 40 "queue.delete" {
            ticket: u16, queue: &'a str, if_unused: bool, if_empty: bool, no_wait: bool
        }
        QueueUnbind<'a> 50 50 "queue.unbind" {
            ticket: u16, queue: &'a str, exchange: &'a str, routing_key: &'a str,
            arguments: RawTable<'a>
        }

        BasicQos 60 10 "basic.qos" { prefetch_size: u32, prefetch_count: u16, global: bool }
        BasicConsume<'a> 60 20 "basic.consume" {
            ticket: u16, queue: &'a str, consumer_tag: &'a str, no_local: bool, no_ack: bool,
            exclusive: bool, no_wait: bool, arguments: RawTable<'a>
        }
        BasicPublish<'a> 60 40 "basic.publish" {
            ticket: u16, exchange: &'a str, routing_key: &'a str, mandatory: bool, immediate: bool
        }
        BasicGet<'a> 60 70 "basic.get" { ticket: u16, queue: &'a str, no_ack: bool }
        BasicReject 60 90 "basic.reject" { delivery_tag: u64, requeue: bool }
        BasicRecoverAsync 60 100 "basic.recover-async" { requeue: bool }
        BasicRecover 60 110 "basic.recover" { requeue: bool }

        ConfirmSelect 85 10 "confirm.select" { no_wait: bool }

        TxSelect 90 10 "tx.select" {}
        TxCommit 90 20 "tx.commit" {}
        TxRollback 90 30 "tx.rollback" {}
    }
    server {
        ConnectionStart<'a> 10 10 "connection.start" {
            version_major: u8, version_minor: u8, server_properties: RawTable<'a>,
            mechanisms: LongString<'a>, locales: LongString<'a>
        }
        ConnectionSecure<'a> 10 20 "connection.secure" { challenge: LongString<'a> }
        ConnectionTune 10 30 "connection.tune" { channel_max: u16, frame_max: u32, heartbeat: u16 }
        ConnectionOpenOk<'a> 10 41 "connection.open-ok" { known_hosts: &'a str }
        ConnectionBlocked<'a> 10 60 "connection.blocked" { reason: &'a str }
        ConnectionUnblocked 10 61 "connection.unblocked" {}
        ConnectionUpdateSecretOk 10 71 "connection.update-secret-ok" {}

        ChannelOpenOk<'a> 20 11 "channel.open-ok" { channel_id: LongString<'a> }

        AccessRequestOk 30 11 "access.request-ok" { ticket: u16 }

        ExchangeDeclareOk 40 11 "exchange.declare-ok" {}
        ExchangeDeleteOk 40 21 "exchange.delete-ok" {}
        ExchangeBindOk 40 31 "exchange.bind-ok" {}
        ExchangeUnbindOk 40 51 "exchange.unbind-ok" {}

        QueueDeclareOk<'a> 50 11 "queue.declare-ok" {
            queue: &'a str, message_count: u32, consumer_count: u32
        }
        QueueBindOk 50 21 "queue.bind-ok" {}
        QueuePurgeOk 50 31 "queue.purge-ok" { message_count: u32 }
        QueueDeleteOk 50 41 "queue.delete-ok" { message_count: u32 }
        QueueUnbindOk 50 51 "queue.unbind-ok" {}

        BasicQosOk 60 11 "basic.qos-ok" {}
        BasicConsumeOk<'a> 60 21 "basic.consume-ok" { consumer_tag: &'a str }
        BasicReturn<'a> 60 50 "basic.return" {
            reply_code: u16, reply_text: &'a str, exchange: &'a str, routing_key: &'a str
        }
        BasicDeliver<'a> 60 60 "basic.deliver" {
            consumer_tag: &'a str, delivery_tag: u64, redelivered: bool, exchange: &'a str,
            routing_key: &'a str
        }
        BasicGetOk<'a> 60 71 "basic.get-ok" {
            delivery_tag: u64, redelivered: bool, exchange: &'a str, routing_key: &'a str,
            message_count: u32
        }
        BasicGetEmpty<'a> 60 72 "basic.get-empty" { cluster_id: &'a str }
        BasicRecoverOk 60 111 "basic.recover-ok" {}

        ConfirmSelectOk 85 11 "confirm.select-ok" {}

        TxSelectOk 90 11 "tx.select-ok" {}
        TxCommitOk 90 21 "tx.commit-ok" {}
        TxRollbackOk 90 31 "tx.rollback-ok" {}
    }
    both {
        ConnectionClose<'a> 10 50 "connection.close" {
            reply_code: u16, reply_text: &'a str, class_id: u16, method_id: u16
        }
        ConnectionCloseOk 10 51 "connection.close-ok" {}

        ChannelFlow 20 20 "channel.flow" { active: bool }
        ChannelFlowOk 20 21 "channel.flow-ok" { active: bool }
        ChannelClose<'a> 20 40 "channel.close" {
            reply_code: u16, reply_text: &'a str, class_id: u16, method_id: u16
        }
        ChannelCloseOk 20 41 "channel.close-ok" {}

        BasicCancel<'a> 60 30 "basic.cancel" { consumer_tag: &'a str, no_wait: bool }
        BasicCancelOk<'a> 60 31 "basic.cancel-ok" { consumer_tag: &'a str }
        BasicAck 60 80 "basic.ack" { delivery_tag: u64, multiple: bool }
        BasicNack 60 120 "basic.nack" { delivery_tag: u64, multiple: bool, requeue: bool }
    }
}
