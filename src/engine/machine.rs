//! What this machine has: for the capacity of a run, and for the history of its results.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::resources::Capacity;
use super::slots::Slot;
use crate::spec::quantity;
use crate::store::files;

/// A machine, as far as it may matter to a result or to how long it took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name.
    pub host: String,
    /// The model of its processor.
    pub cpu: String,
    /// Threads that this process may use at once.
    pub cores: usize,
    /// Bytes of memory that this process and its children may use; absent where the system does not tell.
    pub memory: Option<u64>,
    /// The GPUs that this process may use; none unless they were looked for.
    pub gpus: Vec<Gpu>,
    /// The version of their driver.
    pub driver: Option<String>,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Its place among those that this process may use.
    pub ordinal: usize,
    /// What CUDA calls it: the number that `nvidia-smi` shows, or the entry of `CUDA_VISIBLE_DEVICES`.
    pub id: String,
    /// Its model.
    pub name: String,
    /// Bytes of its memory; absent where the driver does not tell.
    pub memory: Option<u64>,
}

impl Machine {
    /// Looks at this machine, but not for GPUs: asking the driver takes long.
    pub fn here() -> Self {
        let text = |path: &str| files::read_text(path.as_ref()).ok();
        let host = text("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
        Self {
            host: host.unwrap_or_else(|| UNKNOWN.to_owned()),
            cpu: cpu(&text("/proc/cpuinfo").unwrap_or_default()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory: memory(&text),
            gpus: Vec::new(),
            driver: None,
        }
    }

    /// Looks for GPUs too. `visible` is `CUDA_VISIBLE_DEVICES` as this process was given it.
    #[must_use]
    pub fn with_gpus(mut self, visible: Option<&str>) -> Self {
        // Where no driver is loaded there is nobody to ask.
        if ["/dev/nvidiactl", "/proc/driver/nvidia", "/dev/dxg"].iter().any(|p| exists(p)) {
            let (found, driver) = match ask_driver() {
                Some(listing) => devices(&listing),
                None => (nodes(&|path| exists(path)), None),
            };
            self.gpus = select(visible, found);
            self.driver = driver;
        }
        self
    }

    /// All that there is.
    pub fn capacity(&self) -> Capacity {
        let gpus = self.gpus.iter().map(|gpu| gpu.ordinal).collect();
        Capacity { threads: self.cores.max(1), memory: self.memory, gpus }
    }
}

/// What a worker in a slot finds in its environment: threads for the pools, and only the GPUs of the slot.
///
/// A node without a GPU sees none, so that nothing depends on what happens to be in the machine. CUDA numbers devices
/// by speed unless it is told to number them as `nvidia-smi` does.
pub fn environment(slot: &Slot, machine: &Machine) -> Vec<(String, String)> {
    let id = |(ordinal, _): &(usize, u32)| {
        let gpu = machine.gpus.iter().find(|gpu| gpu.ordinal == *ordinal);
        gpu.map_or_else(|| ordinal.to_string(), |gpu| gpu.id.clone())
    };
    let ids: Vec<String> = slot.gpus.iter().map(id).collect();
    let threads = slot.threads.to_string();
    let [rayon, openmp, order, visible] = SLOT_VARIABLES;
    let mut variables = vec![(rayon, threads.clone()), (openmp, threads)];
    if !ids.is_empty() {
        variables.push((order, "PCI_BUS_ID".to_owned()));
    }
    variables.push((visible, ids.join(",")));
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The variables that tell a worker of its slot.
pub const SLOT_VARIABLES: [&str; 4] =
    ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "CUDA_DEVICE_ORDER", VISIBLE];

/// The variable that says which GPUs a process may use.
pub const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

const UNKNOWN: &str = "unknown";

fn exists(path: &str) -> bool {
    Path::new(path).exists()
}

/// The model of the processor.
fn cpu(cpuinfo: &str) -> String {
    let model = cpuinfo.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        ["model name", "Model", "cpu model"].contains(&name.trim()).then(|| value.trim())
    });
    model.filter(|model| !model.is_empty()).unwrap_or(UNKNOWN).to_owned()
}

/// The memory that this process may use: what the machine has, or less where a control group says so.
fn memory(read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let meminfo = read("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| {
        let kib = line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?;
        kib.trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|path| {
        // `max` is no number: no limit. Version 1 writes a number beyond any machine.
        read(&path)?.trim().parse::<u64>().ok().filter(|limit| *limit > 0)
    });
    total.into_iter().chain(limits).min()
}

/// The files that may hold a limit of memory for a process in these control groups, and in those above them.
fn limit_files(groups: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (roots, file): (&[&str], _) = match controllers {
            "" => (&["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], "memory.max"),
            some if some.split(',').any(|name| name == "memory") => {
                (&["/sys/fs/cgroup/memory"], "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for above in Path::new(path).ancestors() {
            let above = above.display().to_string();
            let above = above.trim_end_matches('/');
            found.extend(roots.iter().map(|root| format!("{root}{above}/{file}")));
        }
    }
    found
}

/// A device as the driver lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Device {
    index: String,
    uuid: String,
    name: String,
    memory: Option<u64>,
}

/// Asks the driver for its devices; nothing where it does not answer within some seconds.
fn ask_driver() -> Option<String> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let mut child = Command::new("nvidia-smi")
        .args(["--query-gpu=index,uuid,name,memory.total,driver_version", "--format=csv,noheader"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let since = Instant::now();
    // A few lines fit into the pipe, so that it can end before they are read.
    let answered = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.success(),
            Ok(None) if since.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
            Ok(None) | Err(_) => {
                give_up(&mut child);
                break false;
            }
        }
    };
    let mut listing = String::new();
    child.stdout.take()?.read_to_string(&mut listing).ok()?;
    answered.then_some(listing)
}

/// Ends a program that does not answer; one that hangs in the driver cannot be waited for.
fn give_up(child: &mut Child) {
    drop(child.kill());
    child.stdout = None;
}

/// The devices of a listing, and the version of the driver.
fn devices(listing: &str) -> (Vec<Device>, Option<String>) {
    let mut driver = None;
    let device = |line: &str| {
        // A name may hold a comma.
        let parts: Vec<&str> = line.split(", ").map(str::trim).collect();
        let [index, uuid, name @ .., memory, version] = parts.as_slice() else { return None };
        driver.get_or_insert_with(|| (*version).to_owned());
        Some(Device {
            index: (*index).to_owned(),
            uuid: (*uuid).to_owned(),
            name: name.join(", "),
            memory: quantity::size(memory).ok(),
        })
    };
    (listing.lines().filter_map(device).collect(), driver)
}

/// The devices that the system has files for: what is left where `nvidia-smi` is not installed.
fn nodes(exists: &dyn Fn(&str) -> bool) -> Vec<Device> {
    const MOST: usize = 64;
    let count = (0..MOST).filter(|i| exists(&format!("/dev/nvidia{i}"))).count();
    (0..count).map(|i| unknown(&i.to_string())).collect()
}

fn unknown(index: &str) -> Device {
    let [uuid, name] = [String::new(), UNKNOWN.to_owned()];
    Device { index: index.to_owned(), uuid, name, memory: None }
}

/// The devices that a list in `CUDA_VISIBLE_DEVICES` names, in its order; all of them without a list. As CUDA does, it
/// ends at the first entry that names none.
fn select(visible: Option<&str>, found: Vec<Device>) -> Vec<Gpu> {
    let gpu = |(ordinal, (id, device)): (usize, (String, Device))| Gpu {
        ordinal,
        id,
        name: device.name,
        memory: device.memory,
    };
    let Some(list) = visible else {
        let all = found.into_iter().map(|device| (device.index.clone(), device));
        return all.enumerate().map(gpu).collect();
    };
    let named = |entry: &str| {
        let by_number = |device: &&Device| device.index == entry;
        let by_uuid = |device: &&Device| {
            entry.len() > "GPU-".len()
                && entry.starts_with("GPU-")
                && device.uuid.starts_with(entry)
        };
        let device = found.iter().find(|device| by_number(device) || by_uuid(device)).cloned();
        // A part of a device is listed nowhere; without any listing CUDA alone knows.
        let known_to_cuda =
            entry.starts_with("MIG-") || found.is_empty() && !entry.starts_with('-');
        device.or_else(|| known_to_cuda.then(|| unknown(entry)))
    };
    let entries = list.split(',').map(str::trim).take_while(|entry| !entry.is_empty());
    let chosen = entries.map_while(|entry| Some((entry.to_owned(), named(entry)?)));
    chosen.enumerate().map(gpu).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "0, GPU-aaaa1111, NVIDIA H100 80GB HBM3, 81559 MiB, 550.54.15\n\
                           1, GPU-bbbb2222, NVIDIA Odd, Named, [N/A], 550.54.15\n";

    #[test]
    fn devices_are_read_from_a_listing() {
        let (found, driver) = devices(LISTING);
        assert_eq!(driver.as_deref(), Some("550.54.15"));
        let names: Vec<&str> = found.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["NVIDIA H100 80GB HBM3", "NVIDIA Odd, Named"]);
        assert_eq!((found[0].memory, found[1].memory), (Some(81559 << 20), None));
        assert_eq!(devices("No devices were found\n"), (Vec::new(), None));
        assert_eq!(nodes(&|path| path == "/dev/nvidia3").len(), 1);
    }

    #[test]
    fn the_list_of_visible_devices_is_read_as_cuda_does() {
        let check = |visible: Option<&str>, expected: &[&str]| {
            let gpus = select(visible, devices(LISTING).0);
            let ids: Vec<&str> = gpus.iter().map(|gpu| gpu.id.as_str()).collect();
            assert_eq!(ids, expected, "{visible:?}");
            assert!(gpus.iter().enumerate().all(|(i, gpu)| gpu.ordinal == i));
        };
        check(None, &["0", "1"]);
        check(Some("1,0"), &["1", "0"]);
        check(Some(" 1 "), &["1"]);
        check(Some(""), &[]);
        check(Some("-1"), &[]);
        check(Some("0,7,1"), &["0"]);
        check(Some("NoDevFiles"), &[]);
        check(Some("GPU-bbbb"), &["GPU-bbbb"]);
        check(Some("GPU-cccc"), &[]);
        check(Some("GPU-"), &[]);
        check(Some("MIG-x,1"), &["MIG-x", "1"]);
        assert_eq!(select(Some("GPU-bbbb"), devices(LISTING).0)[0].name, "NVIDIA Odd, Named");
        assert_eq!(select(Some("2"), Vec::new())[0].id, "2");
        assert_eq!(select(Some("-1"), Vec::new()), []);
    }

    #[test]
    fn a_worker_sees_the_gpus_of_its_slot_and_no_other() {
        let gpus = select(Some("GPU-bbbb,0"), devices(LISTING).0);
        let machine = Machine { gpus, ..Machine::default() };
        let check = |gpus: &[usize], order: Option<&str>, visible: &str| {
            let gpus = gpus.iter().map(|ordinal| (*ordinal, 500)).collect();
            let slot = Slot { threads: 3, gpus, ..Slot::default() };
            let variables = environment(&slot, &machine);
            let get = |name: &str| {
                variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
            };
            assert_eq!(get("RAYON_NUM_THREADS"), Some("3"));
            assert_eq!(get("OMP_NUM_THREADS"), Some("3"));
            assert_eq!(get("CUDA_DEVICE_ORDER"), order);
            assert_eq!(get("CUDA_VISIBLE_DEVICES"), Some(visible));
        };
        check(&[], None, "");
        check(&[0], Some("PCI_BUS_ID"), "GPU-bbbb");
        check(&[0, 1], Some("PCI_BUS_ID"), "GPU-bbbb,0");
    }

    #[test]
    fn memory_is_the_least_of_the_machine_and_its_control_groups() {
        let check = |files: &[(&str, &str)], expected: Option<u64>| {
            let read = |path: &str| {
                files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned())
            };
            assert_eq!(memory(&read), expected);
        };
        let meminfo = ("/proc/meminfo", "MemTotal:       16384 kB\nMemFree:  1 kB\n");
        let total = Some(16 << 20);
        check(&[], None);
        check(&[meminfo], total);
        let unified = ("/proc/self/cgroup", "0::/user.slice/job\n");
        check(&[meminfo, unified, ("/sys/fs/cgroup/user.slice/job/memory.max", "max\n")], total);
        check(&[meminfo, unified, ("/sys/fs/cgroup/user.slice/memory.max", "4096\n")], Some(4096));
        let root = ("/proc/self/cgroup", "0::/\n");
        check(&[meminfo, root, ("/sys/fs/cgroup/memory.max", "8192\n")], Some(8192));
        let first = ("/proc/self/cgroup", "5:devices:/\n4:cpu,memory:/job\n0::/\n");
        let file = "/sys/fs/cgroup/memory/job/memory.limit_in_bytes";
        check(&[meminfo, first, (file, "9223372036854771712\n")], total);
        check(&[meminfo, first, (file, "2048\n")], Some(2048));
        check(&[root, ("/sys/fs/cgroup/memory.max", "8192\n")], Some(8192));
    }

    #[test]
    fn the_processor_is_named_where_the_system_does() {
        assert_eq!(cpu("processor : 0\nmodel name\t: Some CPU @ 2 GHz\n"), "Some CPU @ 2 GHz");
        assert_eq!(cpu("processor : 0\nmodel name\t:\n"), "unknown");
        assert_eq!(cpu(""), "unknown");
    }

    #[test]
    fn this_machine_has_a_name_and_a_core() {
        let machine = Machine::here();
        assert!(!machine.host.is_empty() && machine.cores > 0);
        assert_eq!(machine.capacity().threads, machine.cores);
    }
}
