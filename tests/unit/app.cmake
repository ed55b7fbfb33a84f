manx_test(app_config_test app_config_test.cpp LABEL unit LINK manx::app_config)
manx_test(metrics_test metrics_test.cpp LABEL unit LINK manx::metrics)
manx_test(node_addresses_test node_addresses_test.cpp LABEL unit LINK manx::app)
manx_test(node_condition_test node_condition_test.cpp LABEL unit LINK manx::app)
