manx_test(bgp_render_test bgp_render_test.cpp bgp_filter_test.cpp bgp_control_test.cpp LABEL unit
              LINK manx::bgp)
