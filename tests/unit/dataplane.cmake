manx_test(masquerade_test masquerade_test.cpp LABEL unit LINK manx::dataplane)
manx_test(host_links_test host_links_test.cpp LABEL unit LINK manx::dataplane)
manx_test(events_test events_test.cpp LABEL unit LINK manx::dataplane)
