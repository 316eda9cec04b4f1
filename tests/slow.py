"""The folders and files that `./run test --unit` leaves out, by what makes them slow."""

SLOW = (
    *("bench", "sources", "faults"),  # real time passes: soaks, stalls, reconnecting
    *("test_catalogue.py", "test_cli.py", "test_client.py", "test_demo.py", "test_integrate.py"),  # several processes
    "engines/test_worker.py",  # several processes, started again and again
    *("house/test_shown_commands.py", "house/test_documents.py"),  # every command of the pages
    *("test_updates.py", "test_lineup_campaign.py", "test_liveness.py", "web/test_web_live.py"),  # real time passes
    *("publishers/test_mcap_crash.py", "docker/test_docker_health.py"),  # processes that are killed
    *("publishers/test_serial.py", "publishers/test_websocket.py", "publishers/test_mqtt.py"),  # lines and servers
    *("publishers/test_zenoh.py", "links/test_zenoh_link.py", "publishers/test_stream_server_sockets.py"),
    *(
        "publishers/test_mavlink.py",
        "publishers/test_ros2.py",
        "publishers/test_threaded.py",
        "web/test_web_pictures.py",
    ),
    *("test_replay_settings.py", "test_replay_command.py", "doctor/test_doctor_command.py"),  # whole commands
    *(
        "geometry/test_locator.py",
        "convert/test_same_ranges.py",
        "evaluation/test_evaluation_metrics.py",
    ),  # much to compute
    *("calibration/test_observers.py", "calibration/test_histogram.py"),
    *("publishers/test_mcap_trigger.py", "publishers/test_mcap_writing.py"),  # real time passes
    *(
        "geometry/test_calibration.py",
        "calibration/test_collect.py",
        "engines/test_tensorrt_rebuild.py",
    ),  # much to compute
    *("firmware", "publishers/test_browser_page.py", "publishers/test_ros2_rclpy.py"),  # compilers, emulator, browser
    "engines/test_kserve_triton.py",  # a real server
    *("web/test_web_command.py", "web/test_web_page.py"),  # processes, a browser
    *("test_accuracy.py", "test_recipes.py"),  # whole models, trainings
    *("evaluation/test_evaluation_command.py", "evaluation/test_evaluation_explain.py", "calibration/test_pictures.py"),
    *("convert/test_convert_parts.py", "convert/test_convert_run.py", "convert/test_edgetpu_compile.py"),
    *("convert/test_load.py", "convert/test_load_keras.py", "convert/test_load_torch.py"),
    *("convert/test_old_runtime.py", "convert/test_tensorrt_rtx.py"),
)
