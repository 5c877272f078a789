"""Names of the metrics that machines send, as CloudWatch's own agent has them: dashboards for one
fit the other.

Source: "Metrics collected by the CloudWatch agent" and "Collect NVIDIA GPU metrics" in the
CloudWatch user guide.
"""

from __future__ import annotations

NAMESPACE = "CWAgent"
GPU_PERCENT = "nvidia_smi_utilization_gpu"
GPU_MEMORY_MIB = "nvidia_smi_memory_used"
DISK_PERCENT = "disk_used_percent"
GPU_MEMORY_TOTAL_MIB = "nvidia_smi_memory_total"
CPU_PERCENT = "cpu_usage_active"
IDLE, HELD = "golden_idle", "golden_idle_held"
"""Of the role `golden_idle` alone: 1 while a machine is idle by every line, or held by a user, else
0, once a minute."""
FREE, UNUSED = "golden_free", "golden_unused"
"""Likewise, by the group alone: 1 while nobody uses a machine, also one that has just started; and
the same as IDLE."""

GROUP = "AutoScalingGroupName"
INSTANCE = "InstanceId"
TYPE = "InstanceType"
AMI = "ImageId"
