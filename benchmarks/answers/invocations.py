"""Every command that answers without measuring, as `same_answers.py` runs it in two trees."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.answers.comparison import EXACT, Mask, Tolerance
from benchmarks.answers.inputs import has_reference

# Sums of TensorFlow in several threads may differ in their last bits, and training goes on from them.
TRAINED = Tolerance(relative=1e-6)
# A plan's clock begins with the command, so the milliseconds that it takes to start count.
LIVE = Tolerance(absolute=0.5)

PLAN_ID = r"plan-[0-9a-f]{8}"
VOLATILE = (
    Mask("*/created_utc", "time of the call"),
    Mask("train */files/*.md/*", "time of the call", r"made \S+"),
    Mask("evaluate */files/*.md/*", "time of the call", r"\d{4}-\d\d-\d\dT\S+"),
    Mask("*/keras_sha256", "Keras writes the time into a .keras file"),
    Mask("*/card_sha256", "hash of a card with time and hash of the .keras file"),
    Mask("train */files/*.md/*", "hash of the .keras file", r"keras_sha256: \w{64}"),
    Mask("plan */json/model/sha256", "hash of the .keras file"),
    Mask("plan */files/*/model/sha256", "hash of the .keras file"),
    Mask("plan */*", "a plan's name depends on the time of the call", PLAN_ID),
    Mask("run plan dry/*", "a plan's name depends on the time of the call", PLAN_ID),
    Mask("doctor/json/environment*", "state of the host now"),
    Mask("doctor/json/is_fit", "depends on the load of the host now"),
    *(
        Mask(f"doctor/json/checks/{check}/*", why)
        for check, why in {
            "host load": "load of the host now",
            "processor": "clock of the processor now",
            "memory": "free memory now",
            "clock": "duration measured live",
            "disk": "free space now",
            "code": "commit id",
        }.items()
    ),
    Mask("grid*/lines/*", "time of the call", r"until \d{4}-\d\d-\d\d \d\d:\d\d"),
)


@dataclass(frozen=True, slots=True)
class Invocation:
    """One command with its arguments, and how exactly its answers must agree."""

    name: str
    arguments: str  # as typed; no value holds a blank unless it is quoted
    tolerance: Tolerance = EXACT

    @property
    def is_json(self) -> bool:
        return "--json" in self.arguments.split()


def _some(command: str, tolerance: Tolerance = EXACT, **arguments: str) -> list[Invocation]:
    """Invocations of one command, each with `--json`."""
    return [
        Invocation(f"{command} {name}".replace("_", " "), f"{command} {text} --json", tolerance)
        for name, text in arguments.items()
    ]


REFUSED = ("aggregate bad", "check bad", "predict wrong params", "predict no model", "plan none")
OF_THE_HOST = ("doctor",)  # its exit code depends on the load now
GRID = "--depth 2:4 --base_filters 12,24 --batch_size 64:256:x2"
PLAN = "--epochs 5"

# In this order: later ones read what earlier ones wrote. `inputs/` is the same in both trees, `results/` the home's.
ANSWERS = [
    *_some(
        "aggregate",
        cpu="",
        repeats="--runs inputs/repeats.csv --out made/repeats_agg.csv",
        few="--runs inputs/few.csv --out made/few_agg.csv",
        synthetic="--runs inputs/synthetic.csv --out made/synthetic_agg.csv",
        bad="--runs inputs/bad.csv --out made/bad_agg.csv",
    ),
    *_some(
        "check",
        clean="inputs/jax.csv",
        bad="inputs/bad.csv",
        with_averages="inputs/repeats.csv --runs_agg made/repeats_agg.csv",
        rules="--list",
    ),
    *_some("merge", three="inputs/repeats.csv inputs/jax.csv inputs/synthetic.csv --out made/merged/runs.csv"),
    *_some(
        "compare",
        stacks="inputs/cpu.csv inputs/jax.csv --plot made/compare.png",
        sides="--runs made/merged/runs.csv --a backend=tensorflow,dataset=cifar10_images --b backend=jax",
        same="--runs inputs/repeats.csv --a depth=2 --b depth=2",
    ),
    *_some("migrate", old="--runs inputs/old.csv --out made/lifted/runs.csv"),
    *_some("figures", cpu="--out made/figures", repeats="--runs_agg made/repeats_agg.csv --out made/figures_repeats"),
    *_some(
        "predict",
        default="",
        list="--batch_size 64,128 --depth 4",
        doubling="--batch_size 64:2048:x2 --epochs 50 --plot made/batches.svg",
        regions="--epochs 50 --region DE,FR,US-CA --pue 1.2 --host_w 200",
        money="--epochs 10 --usd_per_gpu_hour 2 --usd_per_kwh 0.3 --gco2_per_kwh 400 --embodied",
        mlcost="--epochs 10 --region EU --energy_formula mlcost",
        gpu="--gpu 'H100 SXM5' --gpu 'RTX 4090' --epochs 10",
        all_gpus="--all_gpus --sort cost --epochs 10 --region DE",
        half="--precision mixed_float16 --gpu 'H100 SXM5'",
        far="--depth 9 --base_filters 8 --batch_size 1",
        wrong_params="--params 5",
        no_model="--conditions precision=mixed_bfloat16",
        network="--network inputs/network.keras --gpu 'RTX 4090;H100 SXM5' --batch_size 64,256",
        network_training="--network inputs/network.keras --gpu 'RTX 4090' --train_n 5000 --epochs 3 "
        "--input_images_per_sec 900 --max_batch",
    ),
    *_some(
        "explain",
        default="--plot made/roofline.png",
        small="--depth 2 --base_filters 16 --batch_size 64",
        gpu="--gpu 'H100 SXM5'",
        half="--precision mixed_float16",
        network="--network inputs/network.keras --batch_size 64 --train_n 5000 --plot made/network.svg",
        network_gpu="--network inputs/network.keras --gpu 'RTX 4090'",
        network_training="--network inputs/network.keras --gpu 'RTX 4090' --epochs 3 --region DE,FR",
    ),
    *_some(
        "next_runs",
        cpu="--out made/next.csv",
        narrow="--depth 2:3 --base_filters 16 --batch_size 64:512:x2 --n 4 --epochs 4 --out made/next_narrow.csv",
        repeats="--runs_agg made/repeats_agg.csv --out made/next_repeats.csv",
    ),
    *_some("train", TRAINED, home="", few="--runs_agg made/few_agg.csv --model made/few.keras --seed 3"),
    *_some("evaluate", TRAINED, few="--runs_agg made/few_agg.csv --repeats 1 --out made/evaluation"),
    *_some(
        "predict",
        TRAINED,
        home="--batch_size 64,128",
        home_whole_run="--depth 2 --base_filters 16 --batch_size 16:256:x2 --epochs 20 --region DE --board_w 60",
        home_far="--depth 5 --base_filters 64",
    ),
    *_some("explain", TRAINED, home="--depth 3 --base_filters 16 --batch_size 64"),
    *_some("next_runs", TRAINED, home="--n 5 --out made/next_home.csv"),
    *_some(
        "plan",
        default=f"--budget_sec 100 {PLAN} --out made/plan.json --csv made/plan.csv --sh made/plan.sh "
        "--optuna made/trials.json --plot made/plan.png --front made/front.svg",
        repeats=f"--budget 3m --repeats 2 {PLAN} --value count",
        throughput=f"--budget_sec 100 {PLAN} --value thr --confidence 0.5 --overhead_sec 3",
        best=f"--budget_sec 60 {PLAN} --value best_acc --common_sd 0.02 --first_epoch none",
        energy=f"--budget_kwh 0.01 {PLAN} --board_w 60 --confidence 0.95",
        rent=f"--budget_usd 0.1 {PLAN} --usd_per_gpu_hour 2",
        carbon=f"--budget_kgco2 0.002 {PLAN} --board_w 60 --region FR",
        must=f"--budget_sec 150 {PLAN} --must depth=4,base_filters=16,batch_size=64 --exclude batch_size=16 "
        "--min_acc 0.2 --max_params 600000",
        none=f"--budget_sec 1 {PLAN}",
    ),
    *_some(
        "plan",
        TRAINED,
        predicted=f"--budget 4m {PLAN} {GRID} --exclude_measured",
        info=f"--budget 4m {PLAN} {GRID} --value info",
    ),
    *_some("plan", synthetic="--runs_agg made/synthetic_agg.csv --budget_sec 600 --epochs 3 --out made/synthetic.json"),
    *_some("run_plan", LIVE, dry="made/plan.json --dry_run --any_conditions"),
    *_some(
        "facts",
        overview="",
        gpus="gpus",
        gpu="gpus --gpu 'H100 SXM5' --filter family=hopper",
        gpu_disputes="gpu_disputes --disagreements",
        cloud_prices="cloud_prices",
        carbon="carbon --region DE",
        electricity="electricity",
        pue="pue",
        speed="speed",
        equivalences="equivalences",
    ),
    Invocation("doctor", "doctor --device cpu --json"),
    Invocation("grid dry", "grid --dry_run --device cpu --depth 2:3 --base_filters 8,16 --epochs 5 --train_n 2048"),
    Invocation("grid next", "grid --dry_run --device cpu --configs made/next_narrow.csv --device_memory 1GB"),
]

# Where the reference data is: rows of an A100 (the network of a time model, and averages as published), MLPerf's logs.
A100 = [
    *_some(
        "mlperf",
        extract="extract inputs/mlperf.tar.xz --out made/mlperf.csv",
        train="train made/mlperf.csv --out made/mlperf",
        predict="predict 'BERT on 8 A100 GPUs'",
    ),
    *_some("aggregate", a100="--runs inputs/a100.csv --out made/a100_agg.csv"),
    *_some("aggregate", a100_few="--runs inputs/a100_few.csv --out made/a100_few_agg.csv"),
    *_some("check", a100="inputs/a100.csv"),
    *_some("next_runs", a100="--runs_agg made/a100_agg.csv --out made/next_a100.csv"),
    *_some("plan", a100="--runs_agg made/a100_agg.csv --budget 30m --epochs 20 --out made/a100_plan.json"),
    *_some("train", TRAINED, a100="--runs_agg made/a100_few_agg.csv --model made/a100.keras --seed 1"),
    *_some("predict", TRAINED, a100="--model made/a100.keras --batch_size 32:2048:x2 --epochs 20"),
    *_some("explain", TRAINED, a100="--model made/a100.keras --batch_size 512"),
]

# What the older tree wrote, read by both: `before/` is a copy of its files.
OLD_FILES = [
    *_some("predict", old_model="--model before/home.keras --batch_size 32:256:x2 --epochs 5"),
    *_some("explain", old_model="--model before/home.keras --depth 2 --base_filters 16"),
    *_some("plan", old_model=f"--model before/home.keras --budget 2m {PLAN} --depth 2:3 --base_filters 12"),
    *_some("run_plan", LIVE, old_plan="before/plan.json --dry_run --any_conditions"),
    *_some("run_plan", LIVE, old_ledger="before/synthetic.json --runs before/runs.csv --dry_run --any_conditions"),
    *_some("check", old_runs="before/runs.csv"),
    *_some("figures", old_averages="--runs_agg before/averages/runs_agg.csv --frozen --out made/figures_old"),
    Invocation("recover", "recover --runs before/unwritten.csv --log_dir before/logs"),
]
OLD_A100 = _some("predict", old_a100="--model before/a100.keras --batch_size 64:2048:x2 --depth 4")


def invocations() -> list[Invocation]:
    """Return all that can be asked on this machine but `old_files()`."""
    return ANSWERS + (A100 if has_reference() else [])


def old_files() -> list[Invocation]:
    return OLD_FILES + (OLD_A100 if has_reference() else [])
