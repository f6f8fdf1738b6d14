//! Every load over every path that needs no agent.

use std::time::Duration;
use weft_benches::lab::{self, Lab, LabOptions, Path, Switch};
use weft_benches::load::Workload;
use weft_benches::load::rounds::{self, Plan};
use weft_benches::report::Comparison;

#[test]
fn direct_routing_and_kernel_vxlan_meet_every_load() -> Result<(), Box<dyn std::error::Error>> {
    if lab::skips_test() {
        return Ok(());
    }
    let mut lab = Lab::new(LabOptions::default())?;
    let a = lab.attach_pod(1, "10.244.1.1/24".parse()?, 1450)?;
    let b = lab.attach_pod(2, "10.244.2.1/24".parse()?, 1450)?;
    let switch = Switch::new(&lab, 1, 2, 1450)?;
    let plan = Plan {
        paths: vec![Path::Direct, Path::Kernel],
        workloads: Workload::ALL.to_vec(),
        rounds: 1,
        time: Duration::from_secs(1),
    };
    let mut heard = 0;
    let samples = rounds::run(&plan, &switch, (&a, &b), &[], |_, _, _| heard += 1)?;
    let runs = plan.paths.len() * plan.workloads.len();
    assert_eq!((samples.len(), heard), (runs, runs));
    for sample in &samples {
        let m = &sample.measurement;
        assert!(m.value > 0.0 && m.gbits > 0.0, "{sample:?}");
        assert!(m.cpu.busy() > 0.0, "{sample:?}");
    }
    eprintln!("{}", Comparison::new(&samples).table());
    Ok(())
}
