"""From settings to data, tasks and a learner."""
