//! Figures of the process, by the names that all Prometheus clients give them.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Reads the figures at each scrape. Only Linux has them.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(figures) = ProcessFigures::read() else { return Ok(()) };
        let cpu = ConstCounter::new(figures.cpu_seconds);
        let help = "User and system CPU time spent";
        encode(&mut encoder, "process_cpu_seconds", help, &cpu)?;
        let mut gauge =
            |name, help, value: f64| encode(&mut encoder, name, help, &ConstGauge::new(value));
        gauge("process_resident_memory_bytes", "Resident memory", figures.resident_bytes)?;
        gauge("process_virtual_memory_bytes", "Virtual memory", figures.virtual_bytes)?;
        gauge("process_open_fds", "Open file descriptors", figures.open_fds)?;
        gauge("process_max_fds", "Most file descriptors that may be open", figures.max_fds)?;
        gauge("process_threads", "Threads of the operating system", figures.threads)?;
        let help = "Start time since the Unix epoch";
        gauge("process_start_time_seconds", help, figures.start_time_seconds)
    }
}

fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

struct ProcessFigures {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    open_fds: f64,
    max_fds: f64,
    threads: f64,
    start_time_seconds: f64,
}

#[cfg(target_os = "linux")]
impl ProcessFigures {
    /// `None` if `/proc` cannot be read.
    fn read() -> Option<Self> {
        use procfs::{WithCurrentSystemInfo as _, process::LimitValue, process::Process};

        let process = Process::myself().ok()?;
        let stat = process.stat().ok()?;
        let ticks = procfs::ticks_per_second() as f64;
        let max_fds = match process.limits().ok()?.max_open_files.soft_limit {
            LimitValue::Value(limit) => limit as f64,
            LimitValue::Unlimited => f64::INFINITY,
        };
        Some(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
            resident_bytes: stat.rss_bytes().get() as f64,
            virtual_bytes: stat.vsize as f64,
            open_fds: process.fd_count().ok()? as f64,
            max_fds,
            threads: stat.num_threads as f64,
            start_time_seconds: procfs::boot_time_secs().ok()? as f64
                + stat.starttime as f64 / ticks,
        })
    }
}

#[cfg(not(target_os = "linux"))]
impl ProcessFigures {
    const fn read() -> Option<Self> {
        None
    }
}
