# What compose.yaml changes in deploy/nginx.conf, which stays the one for every nginx: sed -f nginx-compose.sed nginx.conf

# Docker knows the containers by name. A container that is started again may get another address, so nginx asks again.
# It needs nginx 1.27.3 or later.
1i resolver 127.0.0.11 valid=5s ipv6=off;
s/^upstream \(.*\) {/&\n    zone \1 64k;/
s/server 127\.0\.0\.1:8001 /server passwords:8001 resolve /
s/server 127\.0\.0\.1:8002 /server reads:8002 resolve /

# The container's log is its output, and IPv6 ends at Docker.
s#/var/log/nginx/demo-user.access.log#/dev/stdout#
s#/var/log/nginx/demo-user.error.log#/dev/stderr#
/listen \[::\]/d
