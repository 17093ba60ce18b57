//! The link between the host and a slot, and the addresses on both ends.
//!
//! Slot N has 10.213.N.0/30 for the link (host .1, node .2), 10.214.N.0/24 for pods and
//! 10.215.N.0/24 for Services. The link is the only way out of a slot: pods are seen from
//! outside as their node. What listens on a host end is reachable from every slot, without
//! any forwarding on the host.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use crate::cluster::error::{Error, Result};
use crate::cluster::tools;

/// The name of the host's end of the link.
pub fn link(index: u8) -> String {
    format!("kist-lab-{index}")
}

pub fn host_ip(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 213, index, 1)
}

pub fn node_ip(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 213, index, 2)
}

pub fn pod_range(index: u8) -> String {
    format!("10.214.{index}.0/24")
}

pub fn service_range(index: u8) -> String {
    format!("10.215.{index}.0/24")
}

/// The address of the `kubernetes` Service: the first one of the range.
pub fn first_service_ip(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 215, index, 1)
}

/// True if the host has a narrow route of its own (/16 or narrower) that covers the slot's
/// link: such a slot is left alone. A wide one, as of a VPN, only loses these four addresses.
pub fn taken(index: u8) -> Result<bool> {
    let path = Path::new("/proc/net/route");
    let table = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let ours = u32::from(host_ip(index));
    Ok(table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace();
        // The kernel prints addresses as host-order words of network-order bytes.
        let mut word = |nth| {
            let text = fields.nth(nth)?;
            u32::from_str_radix(text, 16).ok().map(u32::from_be)
        };
        match (word(1), word(5)) {
            (Some(target), Some(mask)) => mask.leading_ones() >= 16 && ours & mask == target,
            _ => false,
        }
    }))
}

/// Makes the link and gives both ends their addresses.
pub fn connect(index: u8, anchor_pid: u32) -> Result<()> {
    let link = link(index);
    let pid = anchor_pid.to_string();
    ip(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &pid])?;
    ip(&["addr", "add", &format!("{}/30", host_ip(index)), "dev", &link])?;
    ip(&["link", "set", &link, "up"])?;
    let inside = |args: &[&str]| {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &pid, "ip"]).args(args);
        tools::run(&mut command).map(drop)
    };
    inside(&["addr", "add", &format!("{}/30", node_ip(index)), "dev", "eth0"])?;
    inside(&["link", "set", "eth0", "up"])?;
    inside(&["route", "add", "default", "via", &host_ip(index).to_string()])
}

/// Removes the link, if the kernel has not done so with the namespace.
pub fn disconnect(index: u8) -> Result<()> {
    let link = link(index);
    let present = || Path::new("/sys/class/net").join(&link).exists();
    if !present() {
        return Ok(());
    }
    match ip(&["link", "delete", &link]) {
        // The kernel was at it, too, and was faster.
        Err(_) if !present() => Ok(()),
        outcome => outcome,
    }
}

/// The CNI configuration of a node: a routed link for each pod. There is no bridge, so
/// that traffic between two pods passes kube-proxy's rules on every kernel.
pub fn cni_config(index: u8) -> String {
    serde_json::json!({
        "cniVersion": "1.0.0",
        "name": link(index),
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": pod_range(index) }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
    .to_string()
}

fn ip(args: &[&str]) -> Result<()> {
    tools::run(Command::new("ip").args(args)).map(drop)
}
