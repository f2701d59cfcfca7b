"""Which files of tests come first, and which of them one process has all of."""

# Files whose commands are run by `running.forked`: one process has them all, for each that has some
# starts a server of its own, which imports everything once more.
COMMANDS = (
    "test_cached_runs.py",
    "test_ctc.py",
    "test_many_processes.py",
    "test_report_page.py",
    "test_run.py",
    "test_sweeps.py",
    "test_tracked_runs.py",
)
# Other files, the longest first: a process that gets one last keeps the other waiting.
LONGEST = (
    *("test_docs.py", "test_resuming.py", "test_hub_run.py", "test_precision.py", "test_assets.py"),
    *("test_conf.py", "test_controls.py", "test_goldens.py", "test_pretrain.py"),
    *("test_experiment.py", "test_encoder.py", "test_growing_entries.py", "test_bootstrap.py"),
    *("test_towers.py", "test_config.py", "test_inter.py", "test_measures.py"),
    *("test_task_runs.py", "test_own_labels.py", "test_recognition.py", "test_protocols.py"),
    *("test_plots.py", "test_librispeech.py", "test_analogies.py", "test_report_browser.py"),
    *("test_adapters.py", "test_unit_study.py", "test_hostile.py", "test_objectives.py"),
    *("test_protocol.py", "test_cca.py", "test_weighted_sum.py", "test_synthetic.py"),
    *("test_context.py", "test_linear_head.py", "test_frame_files.py", "test_frame_consumer.py"),
    *("test_discrete_units.py", "test_dashboard.py"),
)
