"""AMIs, launches, templates, groups: what EC2 and Auto Scaling answer."""
