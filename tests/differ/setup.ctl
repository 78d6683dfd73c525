# What both servers are told before the first script.
add_user limited limited
set_permissions limited "^[^.]*[-][a-z]*c" "^[^.]*[-][a-z]*w" "^[^.]*[-][a-z]*r"
add_user topical topical
set_permissions topical ".*" ".*" ".*"
set_topic_permissions topical amq.topic "^may" "^may"
add_user nobody nobody
add_user impersonator impersonator
set_user_tags impersonator impersonator
set_permissions impersonator ".*" ".*" ".*"
add_vhost other
set_permissions -p other guest ".*" ".*" ".*"
set_policy ttl "pol-ttl$" "{\"message-ttl\":100}" --apply-to queues
set_policy length "pol-length$" "{\"max-length\":2}" --apply-to queues
set_policy reject "pol-reject$" "{\"max-length\":1,\"overflow\":\"reject-publish\"}" --apply-to queues
set_policy alternate "pol-ae$" "{\"alternate-exchange\":\"amq.fanout\"}" --apply-to exchanges
add_user few few
set_permissions few ".*" ".*" ".*"
set_user_limits few "{\"max-connections\":1,\"max-channels\":2}"
add_vhost small
set_permissions -p small guest ".*" ".*" ".*"
set_vhost_limits -p small "{\"max-connections\":1,\"max-queues\":1}"
