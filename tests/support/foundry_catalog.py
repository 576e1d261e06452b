"""A stub of Foundry's catalog, which a test cannot reach: what the real SDK asks of it."""


def catalog_entry(name):
    """What Foundry's catalog says of a model, as far as the runtime wants to know it."""
    registry = "azureml://registries/azureml/models"
    variant = {"modelType": "ONNX", "device": "cpu", "executionProvider": "CPUExecutionProvider", "fileSizeBytes": 1000}
    return {
        "assetId": f"{registry}/{name}/versions/1",
        "name": name,
        "alias": name.removesuffix("-generic-cpu"),
        "version": "1",
        "publisher": "Local",
        "deploymentOptions": ["Foundry Local on Devices"],
        "inferenceTasks": ["chat-completion"],
        "variantInformation": {"parents": [{"assetId": f"{registry}/parent/versions/1"}], "variantMetadata": variant},
    }
