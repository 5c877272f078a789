"""Ten roles with the interface and the modules of Galaxy's best known ones: they know nothing of
goldenami, and ask Ansible's facts what they run on."""

from __future__ import annotations

ROLES: dict[str, dict[str, str]] = {
    "node_exporter": {
        "defaults/main.yml": "node_exporter_web_listen_address: 0.0.0.0:9100\n"
        "node_exporter_package: prometheus-node-exporter\n",
        "vars/main.yml": "node_exporter_arch_map: {x86_64: amd64, aarch64: arm64}\n"
        "node_exporter_arch: '{{ node_exporter_arch_map[ansible_architecture] }}'\n",
        "tasks/main.yml": """
- name: Check the service manager
  assert: {that: ansible_service_mgr == 'systemd', quiet: true}
- name: Install
  package: {name: '{{ node_exporter_package }}', state: present}
- name: Configure
  copy:
    dest: /etc/default/prometheus-node-exporter
    content: |
      # {{ node_exporter_arch }}
      ARGS="--web.listen-address={{ node_exporter_web_listen_address }}"
    mode: '0644'
  notify: restart node_exporter
- name: Ensure it runs
  become: true
  systemd: {daemon_reload: true, name: prometheus-node-exporter, state: started, enabled: true}
""",
        "handlers/main.yml": """
- name: restart node_exporter
  systemd: {name: prometheus-node-exporter, state: restarted, daemon_reload: true}
""",
    },
    "docker": {
        "defaults/main.yml": "docker_service_manage: true\ndocker_users: []\n"
        "docker_arch: \"{{ 'arm64' if ansible_facts.architecture == 'aarch64' else 'amd64' }}\"\n"
        "docker_apt_repository: 'deb [arch={{ docker_arch }}] https://docker.example/"
        "{{ ansible_facts.distribution | lower }} {{ ansible_facts.distribution_release }} a'\n",
        "tasks/main.yml": """
- include_tasks: "setup-{{ ansible_facts.os_family }}.yml"
- name: Ensure Docker is enabled
  service: {name: docker, enabled: true}
  when: docker_service_manage | bool and ansible_facts.virtualization_type != 'lxc'
- include_tasks: docker-users.yml
  when: docker_users | length > 0
""",
        "tasks/setup-Debian.yml": """
- name: Note the repository
  copy: {content: "# {{ docker_apt_repository }}\\n", dest: /etc/docker/repository, mode: '0644'}
""",
        "tasks/setup-RedHat.yml": """
- name: Ask the kernel
  debug: {msg: '{{ ansible_kernel }} of {{ ansible_fqdn }}'}
""",
        "tasks/docker-users.yml": """
- name: Ensure users may use Docker
  user: {name: '{{ item }}', groups: docker, append: true}
  with_items: '{{ docker_users }}'
""",
    },
    "ntp": {
        "defaults/main.yml": "ntp_enabled: true\nntp_servers: [169.254.169.123 iburst]\n",
        "vars/Debian.yml": "__ntp_daemon: chrony\n",
        "vars/RedHat.yml": "__ntp_daemon: chronyd\n",
        "tasks/main.yml": """
- name: Include variables of the family
  include_vars: '{{ ansible_os_family }}.yml'
- name: Set the name of the daemon
  set_fact: {ntp_daemon: '{{ __ntp_daemon }}'}
  when: ntp_daemon is not defined
- name: Install
  package: {name: chrony, state: present}
- name: Write the servers
  template: {src: company.sources.j2, dest: /etc/chrony/sources.d/company.sources, mode: '0644'}
  notify: restart ntp
- name: Ensure it runs
  service: {name: '{{ ntp_daemon }}', state: started, enabled: '{{ ntp_enabled }}'}
""",
        "templates/company.sources.j2": "{% for one in ntp_servers %}\n"
        "server {{ one }}\n{% endfor %}\n",
        "handlers/main.yml": """
- name: restart ntp
  service: {name: '{{ ntp_daemon }}', state: restarted}
  when: ntp_enabled | bool
""",
    },
    "nginx": {
        "defaults/main.yml": 'nginx_worker_processes: "{{ ansible_processor_vcpus }}"\n'
        "nginx_listen: 8080\nnginx_user: www-data\n",
        "tasks/main.yml": """
- include_tasks: "setup-{{ ansible_facts['os_family'] }}.yml"
- name: Create what its first start would create
  file: {path: '/var/lib/nginx/{{ item }}', state: directory, owner: www-data, mode: '0700'}
  loop: [body, fastcgi, proxy, scgi, uwsgi]
- name: Remove the default site
  file: {path: /etc/nginx/sites-enabled/default, state: absent}
- name: Configure
  template: {src: nginx.conf.j2, dest: /etc/nginx/nginx.conf, owner: root, mode: '0644'}
  notify: reload nginx
- name: Ensure it runs
  service: {name: nginx, state: started, enabled: true}
""",
        "tasks/setup-Debian.yml": """
- name: Update the cache
  apt: {update_cache: yes, cache_valid_time: 86400}
  changed_when: false
- name: Install
  apt: {name: nginx-light, state: present}
""",
        "tasks/setup-FreeBSD.yml": "- debug: {msg: '{{ ansible_default_ipv4.address }}'}\n",
        "templates/nginx.conf.j2": """user {{ nginx_user }};
worker_processes {{ nginx_worker_processes }};
pid /run/nginx.pid;
events { worker_connections 64; }
http { server { listen {{ nginx_listen }}; return 204; } }
""",
        "handlers/main.yml": "- name: reload nginx\n  service: {name: nginx, state: reloaded}\n",
    },
    "java": {
        "defaults/main.yml": 'java_home: ""\n',
        "vars/Debian-13.yml": "__java_packages: [java-common]\n__java_version: 21\n",
        "tasks/main.yml": """
- name: Include variables of the version
  include_vars:
    "{{ ansible_facts.distribution }}-{{ ansible_facts.distribution_version.split('.')[0] }}.yml"
- name: Install
  apt: {name: '{{ __java_packages }}', state: present}
  when: ansible_facts.os_family == 'Debian'
- name: Set JAVA_HOME
  template: {src: java_home.sh.j2, dest: /etc/profile.d/java_home.sh, mode: '0644'}
""",
        "templates/java_home.sh.j2": "export JAVA_HOME={{ java_home or '/usr/lib/jvm/java-' ~ "
        "__java_version ~ '-openjdk-' ~ {'x86_64': 'amd64'}[ansible_facts.machine] }}\n",
    },
    "postgresql_client": {
        "defaults/main.yml": "postgresql_client_host: localhost\n",
        "tasks/main.yml": """
- name: Install
  ansible.builtin.package:
    name: "{{ 'postgresql-client' if ansible_facts.pkg_mgr == 'apt' else 'postgresql' }}"
- name: Name the server
  ansible.builtin.lineinfile:
    path: /etc/postgresql-common/pg_service.conf
    line: "host={{ postgresql_client_host }}"
    create: true
    mode: '0644'
  environment: {PYTHON: "{{ ansible_facts['python']['executable'] }}"}
""",
    },
    "users": {
        "defaults/main.yml": "users_list: []\nusers_home_root: /srv\n",
        "tasks/main.yml": """
- name: Create the group
  group: {name: operators, system: true}
- name: Create the users
  user:
    name: '{{ item.name }}'
    system: true
    create_home: false
    home: '{{ users_home_root }}'
    shell: "{{ item.shell | default('/usr/sbin/nologin') }}"
    groups: operators
  loop: '{{ users_list }}'
  when: ansible_system == 'Linux'
- name: Let operators restart services
  copy:
    dest: /etc/sudoers.d/operators
    content: "%operators ALL=(root) NOPASSWD: /usr/bin/systemctl restart *\\n"
    mode: '0440'
    validate: visudo -cf %s
  when: ansible_facts.user_id == 'root'
""",
    },
    "security": {
        "defaults/main.yml": "security_ssh_grace_s: 60\nsecurity_sudoers_passwordless: []\n",
        "tasks/main.yml": """
- name: Configure SSH
  lineinfile:
    path: /etc/ssh/sshd_config.d/50-security.conf
    regexp: ^LoginGraceTime
    line: 'LoginGraceTime {{ security_ssh_grace_s }}'
    create: true
    mode: '0600'
    validate: 'sshd -t -f %s'
  notify: restart ssh
- name: Tell SELinux
  command: semanage port -a -t ssh_port_t -p tcp 22
  when: ansible_selinux.status | default('disabled') == 'enabled'
- name: Set what the kernel says
  copy: {content: "kernel.panic = 10\\n", dest: /etc/sysctl.d/50-security.conf, mode: '0644'}
  when: ansible_virtualization_type not in ['docker', 'lxc', 'openvz']
""",
        "handlers/main.yml": "- name: restart ssh\n"
        "  service: {name: \"{{ 'sshd' if ansible_os_family == 'RedHat' else 'ssh' }}\", "
        "state: restarted}\n",
    },
    "fluentd": {
        "defaults/main.yml": "fluentd_port: 24224\nfluentd_bind: 127.0.0.1\n",
        "vars/main.yml": "__fluentd_files: [/opt/fluentd/**]\n",
        "tasks/main.yml": """
- name: Create its folder
  file: {path: /opt/fluentd, state: directory, mode: '0755'}
- name: Configure
  template: {src: fluentd.py.j2, dest: /opt/fluentd/fluentd.py, mode: '0755'}
- name: Write its unit
  template: {src: fluentd.service.j2, dest: /etc/systemd/system/fluentd.service, mode: '0644'}
  notify: [reload systemd, restart fluentd]
- name: Ensure it runs
  ansible.builtin.systemd_service: {name: fluentd, enabled: true, state: started}
  when: ansible_facts['service_mgr'] == 'systemd'
""",
        "templates/fluentd.py.j2": """#!{{ ansible_facts.python.executable }}
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
    found.bind(("{{ fluentd_bind }}", {{ fluentd_port }}))
    while True:
        found.recv(65536)
""",
        "templates/fluentd.service.j2": """[Unit]
Description=Takes what others log
After=network.target
[Service]
ExecStart=/opt/fluentd/fluentd.py
DynamicUser=yes
[Install]
WantedBy=multi-user.target
""",
        "handlers/main.yml": "- name: reload systemd\n  systemd: {daemon_reload: true}\n"
        "- name: restart fluentd\n  service: {name: fluentd, state: restarted}\n",
    },
    "datadog": {
        "defaults/main.yml": "datadog_hostname: ''\ndatadog_site: example.com\n",
        "tasks/main.yml": """
- name: Include the tasks of the family
  include_tasks: '{{ item }}'
  with_first_found:
    - 'pkg-{{ ansible_facts.distribution | lower }}.yml'
    - 'pkg-{{ ansible_facts.os_family | lower }}.yml'
- name: Ask for a Python that it knows
  fail: {msg: 'Python {{ ansible_python_version }} is too old'}
  when: ansible_python_version is version('3.6', '<')
- name: Configure
  template: {src: datadog.yaml.j2, dest: /etc/datadog-agent/datadog.yaml, mode: '0640'}
""",
        "tasks/pkg-debian.yml": """
- name: Create its folder
  file: {path: /etc/datadog-agent, state: directory, mode: '0755'}
- name: Say the codename
  copy: {content: "{{ ansible_lsb.codename }}\\n", dest: /etc/datadog-agent/codename, mode: '0644'}
""",
        "tasks/pkg-windows.yml": "- debug: {msg: '{{ ansible_memtotal_mb }}'}\n",
        "templates/datadog.yaml.j2": "site: {{ datadog_site }}\n{% if datadog_hostname %}\n"
        "hostname: {{ datadog_hostname }}\n{% endif %}\n"
        "tags: [{{ ansible_userspace_architecture }}, '{{ ansible_apparmor.status }}']\n",
    },
}
DEFINITION = """  node_exporter:
    packages: [prometheus-node-exporter]
  docker:
    after: customize
    docker_users: [ann]
  ntp:
  nginx:
    packages: [nginx-light]
    nginx_worker_processes: auto
  java:
    packages: [java-common]
  postgresql_client:
    packages: [postgresql-client]
  users:
    users_list: [{name: deploy}]
  security:
  fluentd:
  datadog:
"""
"""Their lines below `roles`, for an image with a user `ann`."""
LISTEN = """listen:
  - {port: 9100, unit: prometheus-node-exporter.service, addresses: ["::"]}
  - {port: 8080, unit: nginx.service, addresses: [0.0.0.0]}
  - {port: 24224, protocol: udp, unit: fluentd.service, addresses: [127.0.0.1]}
"""
FILES = {
    f"roles/{role}/{name}": text for role, files in ROLES.items() for name, text in files.items()
}
