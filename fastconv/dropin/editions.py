"""The known editions of the book's definitions: fingerprints, made by `.make_editions`.

By module, definition and part: ``__init__`` or another method, or, under an empty name,
the function, or all methods of the class but ``__init__``. Each fingerprint has the date
of the first state of a repository that has it so.
"""

EDITIONS: dict[str, dict[str, dict[str, dict[str, str]]]] = {
    "common.functions": {
        "cross_entropy_error": {
            "": {
                "511a1931ddaee6027189": "2016-07-07",
                "ef7624ca6c69f356910b": "2017-12-20",
                "36001522169fa3809a5f": "stand-in",
            },
        },
        "identity_function": {
            "": {
                "fa4c81bb723becf03f75": "2016-07-07",
            },
        },
        "mean_squared_error": {
            "": {
                "2fc9ffb45988174715e3": "2016-07-07",
                "703e1eb4ec3dbd8ed9dc": "stand-in",
            },
        },
        "relu": {
            "": {
                "3d7da3a2813dc023a5f3": "2016-07-07",
                "9692d1d3717514970367": "stand-in",
            },
        },
        "relu_grad": {
            "": {
                "8033c2dfe342033a258d": "2016-07-07",
                "0dacb57d1622b80a9d1a": "2019-10-06",
                "d1df3c947da0388036fe": "stand-in",
            },
        },
        "sigmoid": {
            "": {
                "f184ffe226324c8dd55b": "2016-07-07",
                "250a6e04b4466b105814": "stand-in",
            },
        },
        "sigmoid_grad": {
            "": {
                "bf5a838dc4eca7a650c6": "2016-07-07",
                "68ef2773b1ac4d31be29": "stand-in",
            },
        },
        "softmax": {
            "": {
                "eb0fcba55c2db794defb": "2016-07-07",
                "c5d82a389965e3744148": "2020-03-17",
                "3915911832603248d89a": "stand-in",
            },
        },
        "softmax_loss": {
            "": {
                "49ed36ff3eefb3f8802d": "2016-07-07",
                "1d58e36bf1412d2a9ddf": "stand-in",
            },
        },
        "step_function": {
            "": {
                "3788c8942ef600461c07": "2016-07-07",
                "07116d358fed171b9197": "2024-11-05",
            },
        },
        "sum_squared_error": {
            "": {
                "2fc9ffb45988174715e3": "2019-10-28",
            },
        },
    },
    "common.gradient": {
        "numerical_gradient": {
            "": {
                "13c81554bc50ef861ca6": "2016-07-07",
                "bfe5e58f7a50db0d997e": "2019-09-04",
                "a272de1340c245be5c9b": "stand-in",
            },
        },
        "numerical_gradient_2d": {
            "": {
                "5e889448f57a37b84e2a": "2016-07-07",
                "d58900d508bba4ab86bd": "stand-in",
            },
        },
    },
    "common.layers": {
        "Affine": {
            "": {
                "a0ec5c84d4fa4f6034be": "2016-07-07",
                "ab542581a82c6bc9ddc0": "stand-in",
            },
            "__init__": {
                "9f596235acf1f1f81d25": "2016-07-07",
                "acc01aee982286e37485": "stand-in",
            },
            "backward": {
                "4a320e83eae471019ac3": "2016-07-07",
                "c7a8a3e87dd337b5e804": "stand-in",
            },
            "forward": {
                "68eb5312acc7cc91178c": "2016-07-07",
                "af61e0d983a2d39c2223": "stand-in",
            },
        },
        "BatchNormalization": {
            "": {
                "ebab9848670e3e0e7fbc": "2016-07-07",
                "b2c37c120eeb7b5f1a4d": "2016-11-28",
                "9d6ebbaba4603ce2d9d6": "stand-in",
            },
            "__backward": {
                "e4103372dbd06067de07": "2016-07-07",
            },
            "__forward": {
                "6d5717d3f068f276859a": "2016-07-07",
            },
            "__init__": {
                "a12b258e3ddc237eba16": "2016-07-07",
                "93bca18d84ff1479564d": "stand-in",
            },
            "backward": {
                "448d71b7515651bcd59c": "2016-07-07",
                "8b37a56ca88b4793d424": "2016-11-28",
                "974144b926ea2e738721": "stand-in",
            },
            "forward": {
                "f318635b78c1dae27aec": "2016-07-07",
                "fbd1463a33e6cd694e1b": "2016-11-28",
                "da387f1d8838aa478758": "stand-in",
            },
        },
        "Convolution": {
            "": {
                "83cfad2dc7f323654147": "2016-07-07",
                "6fe634e1527de001fbce": "2016-09-06",
                "b45c523908a6726cb957": "stand-in",
            },
            "__init__": {
                "1e79f1452a37ddc82dbd": "2016-07-07",
                "df28c957577dd7c4bb64": "stand-in",
            },
            "backward": {
                "8566dbec593729750c3f": "2016-07-07",
                "918ccdc66ebb428d00f9": "stand-in",
            },
            "forward": {
                "b56c7824854ff759236b": "2016-07-07",
                "c827fbd315c3ab9cef47": "2016-09-06",
                "1e2f513ddacd4f4bf4bd": "stand-in",
            },
        },
        "Dropout": {
            "": {
                "37f5172907cce2a30c59": "2016-07-07",
                "dd5ab230be2391745ffb": "stand-in",
            },
            "__init__": {
                "e30eda8d032aa7b7ca18": "2016-07-07",
            },
            "backward": {
                "f26ba3a211b47a1f9235": "2016-07-07",
            },
            "forward": {
                "f0c7a4ceba3a2a68446e": "2016-07-07",
                "cc388c88ae5d46980824": "stand-in",
            },
        },
        "Pooling": {
            "": {
                "5d707be2c0a0fc768d2a": "2016-07-07",
                "f8bb2579844b81af7bad": "stand-in",
            },
            "__init__": {
                "8e903ddd3d35c582378c": "2016-07-07",
                "3200f93672ae77565410": "2020-09-14",
                "283a500270f968277072": "stand-in",
            },
            "backward": {
                "64d6146347c731a247c8": "2016-07-07",
                "a5be1d1caf24999be028": "stand-in",
            },
            "forward": {
                "d911219f1712e3105ab7": "2016-07-07",
                "8dfb3c90c84b3b2977da": "stand-in",
            },
        },
        "Relu": {
            "": {
                "139454ce2dfde680fc3f": "2016-07-07",
                "ef1111bb41755913d79d": "stand-in",
            },
            "__init__": {
                "0328e9f5696da5d63692": "2016-07-07",
            },
            "backward": {
                "080da1ebbb165450ca8b": "2016-07-07",
                "ffab78b734db6d31bac6": "stand-in",
            },
            "forward": {
                "fa5c45f9755ad2d35d6f": "2016-07-07",
                "0c332fc697465bb32533": "stand-in",
            },
        },
        "Sigmoid": {
            "": {
                "39b6cba282de0455744d": "2016-07-07",
                "f7e473536656c8f0ba4e": "stand-in",
            },
            "__init__": {
                "ba6bc89fa76fc400f8e6": "2016-07-07",
            },
            "backward": {
                "7a31f72ac548521add7a": "2016-07-07",
                "7ad913ed448c0694824c": "stand-in",
            },
            "forward": {
                "c53a877e1fc2581ab34f": "2016-07-07",
                "662d5934c884d19bb181": "stand-in",
            },
        },
        "SoftmaxWithLoss": {
            "": {
                "c34b62478f8005952783": "2016-07-07",
                "7b41db2f91a334793c66": "stand-in",
            },
            "__init__": {
                "03a210744674fa78691a": "2016-07-07",
                "b6e5fe93107772bc2151": "stand-in",
            },
            "backward": {
                "ae29931d9cce300243c6": "2016-07-07",
                "6155910c7da5f32848b2": "stand-in",
            },
            "forward": {
                "efa92f32330cc6bda1cb": "2016-07-07",
                "1a5082e046ec41ae0561": "stand-in",
            },
        },
    },
    "common.optimizer": {
        "AdaGrad": {
            "": {
                "85f5db61e494d46fa02c": "2016-07-07",
                "809bbdc9b817524c0d1a": "stand-in",
            },
            "__init__": {
                "1022cc113d5295d65f12": "2016-07-07",
                "413ed339f9a64780ea0d": "stand-in",
            },
            "update": {
                "2ec587072374b09ed13d": "2016-07-07",
                "11e43935eb5bb4fa5f22": "stand-in",
            },
        },
        "Adam": {
            "": {
                "5b4d4baeb79aa7a944aa": "2016-07-07",
                "e35a84f05258e0f7efa6": "stand-in",
            },
            "__init__": {
                "e13209c385053cabd50b": "2016-07-07",
                "d237d92a2b81f8b008ba": "stand-in",
            },
            "update": {
                "829d4ed99dea68135aca": "2016-07-07",
                "b2e4f269e509f3c192ed": "stand-in",
            },
        },
        "Momentum": {
            "": {
                "7b7b9ec93d31f6a9208e": "2016-07-07",
                "4798f03140e936b0cb0f": "stand-in",
            },
            "__init__": {
                "e40edefe40383f2efe6f": "2016-07-07",
                "91cb54ca7898ce943b5a": "stand-in",
            },
            "update": {
                "97b5c8b6ef2704d1073d": "2016-07-07",
                "326e65f167ad5ba5ade6": "stand-in",
            },
        },
        "Nesterov": {
            "": {
                "0eadb3988d7024d1c909": "2016-07-07",
                "0d56107528e1c40a6839": "2021-01-18",
                "3f134a8af1c69b8f341a": "stand-in",
            },
            "__init__": {
                "e40edefe40383f2efe6f": "2016-07-07",
                "91cb54ca7898ce943b5a": "stand-in",
            },
            "update": {
                "60f8af1c11bd41d0b89d": "2016-07-07",
                "82f0a409038480ea266a": "2021-01-18",
                "ea6697c8f7bf5481f8ae": "stand-in",
            },
        },
        "RMSprop": {
            "": {
                "9263512021119a007cab": "2016-07-07",
                "48bccfcfe4fc7b358c6f": "stand-in",
            },
            "__init__": {
                "346744df3c3ae6468794": "2016-07-07",
                "92d5d83b2eee3dc9284c": "stand-in",
            },
            "update": {
                "ad2ac8d2767294bae362": "2016-07-07",
                "349cab8791f16055a6e8": "stand-in",
            },
        },
        "SGD": {
            "": {
                "a2d520bfddaf59e92989": "2016-07-07",
                "4974607c4095692c37c3": "stand-in",
            },
            "__init__": {
                "3146cb6f799490c2bef6": "2016-07-07",
            },
            "update": {
                "670c40060fcdc5371b08": "2016-07-07",
                "c26a1e8753b9584c86bb": "stand-in",
            },
        },
    },
    "common.trainer": {
        "Trainer": {
            "": {
                "0e6bfc9f24bd0be9ad1e": "2016-07-07",
                "c0e3add3d02d056f1a95": "stand-in",
            },
            "__init__": {
                "d7df15d61905628b8666": "2016-07-07",
                "0c2560698b664f59824d": "2016-11-05",
                "36e7393f0a9311ba869c": "2020-03-17",
                "7c0e0f623acb77af9aed": "stand-in",
            },
            "train": {
                "e27d1eb0d60516e793dc": "2016-07-07",
                "79377b119583f44f7787": "stand-in",
            },
            "train_step": {
                "78a134afde8fc36ac986": "2016-07-07",
                "771a0c0ad13430bebfdd": "stand-in",
            },
        },
    },
    "common.util": {
        "col2im": {
            "": {
                "8ff2e3122874fcd3ebde": "2016-07-07",
                "99ed8211ad2c6b114cac": "stand-in",
            },
        },
        "conv_output_size": {
            "": {
                "84aa6e5ecc19ac61f1bf": "2016-07-07",
            },
        },
        "im2col": {
            "": {
                "f3300bd302707626e5eb": "2016-07-07",
                "157a6035642c40f9d644": "stand-in",
            },
        },
        "shuffle_dataset": {
            "": {
                "de2b4d2cd277bdb8120f": "2016-07-07",
                "e80abc0402f7aa29affe": "stand-in",
            },
        },
        "smooth_curve": {
            "": {
                "0c5e38b589339de7b56f": "2016-07-07",
                "15327cca20a4fa1e773b": "stand-in",
            },
        },
    },
    "dataset.mnist": {
        "load_mnist": {
            "": {
                "fcf5431cb29ac4a36a74": "2016-07-07",
                "9f8666eddef899677f27": "2016-10-10",
                "08ad2ce5124734c53095": "stand-in",
            },
        },
    },
}
