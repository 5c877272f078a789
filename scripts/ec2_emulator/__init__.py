"""EC2, EBS, SSM and Auto Scaling on one machine: moto's server, held to rules that AWS has and moto lacks."""
