//! The TCP connection to a broker.
//!
//! Owns name resolution, the local address and the time that connecting may take.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use leveret_management::protocol::Failure;
use socket2::{Domain, Socket, Type};

use super::url::Target;
use super::{CONNECT_MS_MAX, lost, unfit};

/// Connects to the first address of the host that answers.
pub(super) fn dial(target: &Target) -> Result<TcpStream, Failure> {
    let place = format!("{}:{}", target.host, target.port);
    let addresses = (target.host.as_str(), target.port)
        .to_socket_addrs()
        .map_err(|why| lost(format!("{place}: {why}")))?;
    let mut last = format!("{place}: no address");
    for address in addresses {
        match connect(address, target.bind.as_deref())? {
            Ok(stream) => {
                if target.nodelay {
                    // Only a matter of speed.
                    let _ = stream.set_nodelay(true);
                }
                return Ok(stream);
            }
            Err(why) => last = format!("{address}: {why}"),
        }
    }
    Err(lost(format!("cannot connect to {last}")))
}

fn connect(address: SocketAddr, bind: Option<&str>) -> Result<std::io::Result<TcpStream>, Failure> {
    let timeout = Duration::from_millis(CONNECT_MS_MAX);
    let Some(bind) = bind else {
        return Ok(TcpStream::connect_timeout(&address, timeout));
    };
    let locals = (bind, 0)
        .to_socket_addrs()
        .map_err(|why| unfit(format!("-A {bind}: {why}")))?;
    let Some(local) = locals
        .into_iter()
        .find(|l| l.is_ipv4() == address.is_ipv4())
    else {
        return Ok(Err(std::io::Error::other(format!(
            "-A {bind} is no address of that kind"
        ))));
    };
    let connected = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.bind(&local.into())?;
        socket.connect_timeout(&address.into(), timeout)?;
        Ok(TcpStream::from(socket))
    };
    Ok(connected())
}
